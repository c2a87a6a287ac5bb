-- "ajar" in ASCII: marks the file as ours (see sqlite.org/pragma.html#pragma_application_id).
PRAGMA application_id = 1634361714;

-- Times are microseconds since 1970, UTC. Addresses are a byte 4 or 6 and then the address, so that they sort.

CREATE TABLE campaigns (
    id         TEXT PRIMARY KEY,
    spec       TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    canary_key TEXT NOT NULL,
    nonce_key  BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    state      TEXT NOT NULL
) STRICT;

CREATE TABLE shards (
    campaign    TEXT NOT NULL REFERENCES campaigns (id),
    number      INTEGER NOT NULL,
    -- A sweep: permuted block indices from first to before past.
    first       INTEGER,
    past        INTEGER,
    -- A revisit: endpoints as JSON.
    endpoints   TEXT,
    visit       INTEGER,
    cursor      INTEGER NOT NULL DEFAULT 0,
    answered    INTEGER NOT NULL DEFAULT 0,
    refused     INTEGER NOT NULL DEFAULT 0,
    silent      INTEGER NOT NULL DEFAULT 0,
    unreachable INTEGER NOT NULL DEFAULT 0,
    denied      INTEGER NOT NULL DEFAULT 0,
    failed      INTEGER NOT NULL DEFAULT 0,
    closed      INTEGER NOT NULL DEFAULT 0,
    attempt     INTEGER NOT NULL DEFAULT 0,
    token       INTEGER,
    owner       TEXT,
    rate        INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER,
    reported_at INTEGER,
    PRIMARY KEY (campaign, number),
    CHECK ((first IS NULL) = (past IS NULL)
        AND (endpoints IS NULL) = (visit IS NULL)
        AND (first IS NULL) <> (endpoints IS NULL))
) STRICT;

-- Every token that was ever issued. AUTOINCREMENT never gives one twice.
CREATE TABLE tokens (
    token     INTEGER PRIMARY KEY AUTOINCREMENT,
    campaign  TEXT NOT NULL,
    number    INTEGER NOT NULL,
    owner     TEXT NOT NULL,
    issued_at INTEGER NOT NULL
) STRICT;

-- The key is what keeps a block out of two leases.
CREATE TABLE lease_blocks (
    block    TEXT PRIMARY KEY,
    campaign TEXT NOT NULL,
    number   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_blocks_shard ON lease_blocks (campaign, number);

-- A row without a body exists only inside the transaction that judges it.
CREATE TABLE findings (
    row         INTEGER PRIMARY KEY,
    campaign    TEXT NOT NULL REFERENCES campaigns (id),
    ip          BLOB NOT NULL,
    port        INTEGER NOT NULL,
    probe       TEXT NOT NULL,
    id          TEXT,
    verdict     TEXT,
    awaits_mail INTEGER NOT NULL DEFAULT 0,
    body        TEXT,
    UNIQUE (campaign, ip, port, probe)
) STRICT;
-- Not unique: an id is 64 bits of a hash, and a collision must not stop a batch.
CREATE INDEX findings_id ON findings (id);
CREATE INDEX findings_verdict ON findings (campaign, verdict, awaits_mail);

CREATE TABLE observations (
    finding     INTEGER NOT NULL REFERENCES findings (row),
    vantage     TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    visit       INTEGER NOT NULL,
    evidence    TEXT NOT NULL,
    PRIMARY KEY (finding, vantage)
) STRICT;

CREATE TABLE nonces (
    nonce   TEXT NOT NULL,
    finding INTEGER NOT NULL,
    PRIMARY KEY (nonce, finding)
) STRICT, WITHOUT ROWID;

CREATE TABLE sightings (
    nonce       TEXT PRIMARY KEY,
    received_at INTEGER NOT NULL,
    egress_ip   BLOB NOT NULL,
    body        TEXT NOT NULL
) STRICT;

CREATE TABLE authorizations (
    id     TEXT PRIMARY KEY,
    digest BLOB NOT NULL
) STRICT;

CREATE TABLE audit (
    number           INTEGER PRIMARY KEY,
    at               INTEGER NOT NULL,
    actor            TEXT NOT NULL,
    action           TEXT NOT NULL,
    authorization_id TEXT,
    campaign         TEXT,
    detail           TEXT NOT NULL,
    hash             BLOB NOT NULL
) STRICT;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TABLE canaries (
    number  INTEGER PRIMARY KEY,
    address BLOB NOT NULL UNIQUE,
    body    TEXT NOT NULL
) STRICT;

CREATE TABLE workers (
    worker    TEXT PRIMARY KEY,
    vantage   TEXT NOT NULL,
    last_seen INTEGER NOT NULL
) STRICT;
