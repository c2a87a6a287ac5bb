-- Texts sort by their bytes (COLLATE "C"), so that results come in one order whatever the database's locale.
-- JSON that holds words of targets is json and not jsonb: jsonb refuses U+0000.

CREATE TABLE ajar.campaigns (
    id         text COLLATE "C" PRIMARY KEY,
    spec       json NOT NULL,
    tenant     text NOT NULL,
    canary_key text NOT NULL,
    nonce_key  bytea NOT NULL,
    created_at timestamptz NOT NULL,
    state      text NOT NULL
);

CREATE TABLE ajar.shards (
    campaign    text COLLATE "C" NOT NULL REFERENCES ajar.campaigns (id),
    number      bigint NOT NULL,
    -- A sweep: permuted block indices from first to before past.
    first       bigint,
    past        bigint,
    -- A revisit: endpoints as JSON.
    endpoints   jsonb,
    visit       bigint,
    cursor      bigint NOT NULL DEFAULT 0,
    answered    bigint NOT NULL DEFAULT 0,
    refused     bigint NOT NULL DEFAULT 0,
    silent      bigint NOT NULL DEFAULT 0,
    unreachable bigint NOT NULL DEFAULT 0,
    denied      bigint NOT NULL DEFAULT 0,
    failed      bigint NOT NULL DEFAULT 0,
    closed      boolean NOT NULL DEFAULT false,
    attempt     bigint NOT NULL DEFAULT 0,
    token       bigint,
    owner       text,
    rate        bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    reported_at timestamptz,
    PRIMARY KEY (campaign, number),
    CHECK ((first IS NULL) = (past IS NULL)
        AND (endpoints IS NULL) = (visit IS NULL)
        AND (first IS NULL) <> (endpoints IS NULL))
);

-- Every token that was ever issued.
CREATE TABLE ajar.tokens (
    token     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign  text COLLATE "C" NOT NULL,
    number    bigint NOT NULL,
    owner     text NOT NULL,
    issued_at timestamptz NOT NULL
);

-- The key is what keeps a block out of two leases.
CREATE TABLE ajar.lease_blocks (
    block    cidr PRIMARY KEY,
    campaign text COLLATE "C" NOT NULL,
    number   bigint NOT NULL
);
CREATE INDEX lease_blocks_shard ON ajar.lease_blocks (campaign, number);

-- A row without a body exists only inside the transaction that judges it.
CREATE TABLE ajar.findings (
    row         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign    text COLLATE "C" NOT NULL REFERENCES ajar.campaigns (id),
    ip          inet NOT NULL,
    port        integer NOT NULL,
    probe       text COLLATE "C" NOT NULL,
    id          text COLLATE "C",
    verdict     text COLLATE "C",
    awaits_mail boolean NOT NULL DEFAULT false,
    body        json,
    UNIQUE (campaign, ip, port, probe)
);
-- Not unique: an id is 64 bits of a hash, and a collision must not stop a batch.
CREATE INDEX findings_id ON ajar.findings (id);
CREATE INDEX findings_verdict ON ajar.findings (campaign, verdict, awaits_mail);

CREATE TABLE ajar.observations (
    finding     bigint NOT NULL REFERENCES ajar.findings (row),
    vantage     text COLLATE "C" NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    visit       bigint NOT NULL,
    evidence    json NOT NULL,
    PRIMARY KEY (finding, vantage)
);

-- No foreign key: nothing is ever deleted, and a batch brings tens of thousands of these.
CREATE TABLE ajar.nonces (
    nonce   text COLLATE "C" NOT NULL,
    finding bigint NOT NULL,
    PRIMARY KEY (nonce, finding)
);

CREATE TABLE ajar.sightings (
    nonce       text COLLATE "C" PRIMARY KEY,
    received_at timestamptz NOT NULL,
    egress_ip   inet NOT NULL,
    body        json NOT NULL
);

CREATE TABLE ajar.authorizations (
    id     text COLLATE "C" PRIMARY KEY,
    digest bytea NOT NULL
);

CREATE TABLE ajar.audit (
    number           bigint PRIMARY KEY,
    at               timestamptz NOT NULL,
    actor            text NOT NULL,
    action           text NOT NULL,
    authorization_id text,
    campaign         text,
    detail           text NOT NULL,
    hash             bytea NOT NULL
);
CREATE FUNCTION ajar.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON ajar.audit
FOR EACH ROW EXECUTE FUNCTION ajar.refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON ajar.audit
FOR EACH STATEMENT EXECUTE FUNCTION ajar.refuse_change();

CREATE TABLE ajar.canaries (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    address inet NOT NULL UNIQUE,
    body    json NOT NULL
);

CREATE TABLE ajar.workers (
    worker    text COLLATE "C" PRIMARY KEY,
    vantage   text COLLATE "C" NOT NULL,
    last_seen timestamptz NOT NULL
);
