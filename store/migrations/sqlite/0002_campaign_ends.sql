-- The authorization that a campaign runs under: its rate is a cap over all of its campaigns.
ALTER TABLE campaigns ADD COLUMN authorization_id TEXT;
-- Driven by the process that started it, and by no other.
ALTER TABLE campaigns ADD COLUMN local INTEGER NOT NULL DEFAULT 0;
-- Why it is incomplete.
ALTER TABLE campaigns ADD COLUMN cause TEXT;
CREATE INDEX campaigns_state ON campaigns (state);

-- A shard is the targets from from_target to before to_target of its blocks or endpoints; the end is written at its first grant.
ALTER TABLE shards ADD COLUMN from_target INTEGER NOT NULL DEFAULT 0;
ALTER TABLE shards ADD COLUMN to_target INTEGER;
-- Given up: closed, although not every target has its outcome.
ALTER TABLE shards ADD COLUMN quarantined INTEGER NOT NULL DEFAULT 0;
-- Targets beyond the cursor that have their outcome.
ALTER TABLE shards ADD COLUMN ahead INTEGER NOT NULL DEFAULT 0;
CREATE INDEX shards_open ON shards (campaign, number) WHERE closed = 0;
CREATE INDEX shards_leased ON shards (lease_until) WHERE lease_until IS NOT NULL;

-- What a campaign found, kept by whoever changes a finding; the sum over the slots counts. A batch touches one slot, so that
-- batches do not wait for each other.
CREATE TABLE counts (
    campaign TEXT NOT NULL,
    slot     INTEGER NOT NULL,
    -- A verdict, 'awaits_mail' or 'open_endpoints'.
    kind     TEXT NOT NULL,
    n        INTEGER NOT NULL,
    PRIMARY KEY (campaign, slot, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO counts SELECT campaign, 0, verdict, count(*) FROM findings
WHERE verdict IS NOT NULL GROUP BY campaign, verdict;
INSERT INTO counts SELECT campaign, 0, 'awaits_mail', count(*) FROM findings
WHERE awaits_mail GROUP BY campaign;

-- Endpoints with an open finding, each once.
CREATE TABLE open_endpoints (
    campaign TEXT NOT NULL,
    ip       BLOB NOT NULL,
    port     INTEGER NOT NULL,
    PRIMARY KEY (campaign, ip, port)
) STRICT, WITHOUT ROWID;
INSERT INTO open_endpoints SELECT DISTINCT campaign, ip, port FROM findings WHERE verdict = 'open';
INSERT INTO counts SELECT campaign, 0, 'open_endpoints', count(*) FROM open_endpoints GROUP BY campaign;

-- False until the findings of its nonce were judged by it.
ALTER TABLE sightings ADD COLUMN judged INTEGER NOT NULL DEFAULT 0;
CREATE INDEX sightings_unjudged ON sightings (received_at) WHERE judged = 0;

-- Why workers gave leases back, the last reason of each.
CREATE TABLE troubles (
    campaign TEXT NOT NULL,
    worker   TEXT NOT NULL,
    vantage  TEXT NOT NULL,
    cause    TEXT NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (campaign, worker)
) STRICT, WITHOUT ROWID;
