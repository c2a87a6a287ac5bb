-- Addresses that get no packet, whatever campaigns name them; the empty tenant stands for all.
CREATE TABLE ajar.exclusions (
    id         text COLLATE "C" PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    first      inet NOT NULL,
    last       inet NOT NULL,
    reason     text NOT NULL,
    ordered_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    removed_at timestamptz
);
CREATE INDEX exclusions_in_force ON ajar.exclusions (tenant) WHERE removed_at IS NULL;

-- Counts changes of what is excluded: leases and renewals carry it to workers.
CREATE TABLE ajar.epochs (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch bigint NOT NULL
);
INSERT INTO ajar.epochs (epoch) VALUES (1);
