-- Addresses that get no packet, whatever campaigns name them; the empty tenant stands for all.
CREATE TABLE exclusions (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    first      BLOB NOT NULL,
    last       BLOB NOT NULL,
    reason     TEXT NOT NULL,
    ordered_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    removed_at INTEGER
) STRICT;
CREATE INDEX exclusions_in_force ON exclusions (tenant) WHERE removed_at IS NULL;

-- Counts changes of what is excluded: leases and renewals carry it to workers.
CREATE TABLE epochs (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL
) STRICT;
INSERT INTO epochs VALUES (1, 1);
