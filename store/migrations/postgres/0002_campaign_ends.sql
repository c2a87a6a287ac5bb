-- The authorization that a campaign runs under: its rate is a cap over all of its campaigns.
ALTER TABLE ajar.campaigns ADD COLUMN authorization_id text COLLATE "C";
-- Driven by the process that started it, and by no other.
ALTER TABLE ajar.campaigns ADD COLUMN local boolean NOT NULL DEFAULT false;
-- Why it is incomplete.
ALTER TABLE ajar.campaigns ADD COLUMN cause text;
CREATE INDEX campaigns_state ON ajar.campaigns (state);

-- A shard is the targets from from_target to before to_target of its blocks or endpoints; the end is written at its first grant.
ALTER TABLE ajar.shards ADD COLUMN from_target bigint NOT NULL DEFAULT 0;
ALTER TABLE ajar.shards ADD COLUMN to_target bigint;
-- Given up: closed, although not every target has its outcome.
ALTER TABLE ajar.shards ADD COLUMN quarantined boolean NOT NULL DEFAULT false;
-- Targets beyond the cursor that have their outcome.
ALTER TABLE ajar.shards ADD COLUMN ahead bigint NOT NULL DEFAULT 0;
CREATE INDEX shards_open ON ajar.shards (campaign, number) WHERE NOT closed;
CREATE INDEX shards_leased ON ajar.shards (lease_until) WHERE lease_until IS NOT NULL;

-- What a campaign found, kept by whoever changes a finding; the sum over the slots counts. A batch touches one slot, so that
-- batches do not wait for each other.
CREATE TABLE ajar.counts (
    campaign text COLLATE "C" NOT NULL,
    slot     bigint NOT NULL,
    -- A verdict, 'awaits_mail' or 'open_endpoints'.
    kind     text COLLATE "C" NOT NULL,
    n        bigint NOT NULL,
    PRIMARY KEY (campaign, slot, kind)
);
INSERT INTO ajar.counts SELECT campaign, 0, verdict, count(*) FROM ajar.findings
WHERE verdict IS NOT NULL GROUP BY campaign, verdict;
INSERT INTO ajar.counts SELECT campaign, 0, 'awaits_mail', count(*) FROM ajar.findings
WHERE awaits_mail GROUP BY campaign;

-- Endpoints with an open finding, each once.
CREATE TABLE ajar.open_endpoints (
    campaign text COLLATE "C" NOT NULL,
    ip       inet NOT NULL,
    port     integer NOT NULL,
    PRIMARY KEY (campaign, ip, port)
);
INSERT INTO ajar.open_endpoints SELECT DISTINCT campaign, ip, port FROM ajar.findings WHERE verdict = 'open';
INSERT INTO ajar.counts SELECT campaign, 0, 'open_endpoints', count(*) FROM ajar.open_endpoints GROUP BY campaign;

-- False until the findings of its nonce were judged by it.
ALTER TABLE ajar.sightings ADD COLUMN judged boolean NOT NULL DEFAULT false;
CREATE INDEX sightings_unjudged ON ajar.sightings (received_at) WHERE NOT judged;

-- Why workers gave leases back, the last reason of each.
CREATE TABLE ajar.troubles (
    campaign text COLLATE "C" NOT NULL,
    worker   text COLLATE "C" NOT NULL,
    vantage  text NOT NULL,
    cause    text NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (campaign, worker)
);
