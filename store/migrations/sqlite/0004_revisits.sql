-- How often and how soon endpoints are visited again: as in the spec, at hand for whoever judges.
ALTER TABLE campaigns ADD COLUMN revisits INTEGER NOT NULL DEFAULT 0;
ALTER TABLE campaigns ADD COLUMN revisit_after INTEGER NOT NULL DEFAULT 0;

-- Whence a revisit is made; NULL if it makes no difference.
ALTER TABLE shards ADD COLUMN vantage TEXT;

-- When, and whence, the endpoint should be visited again; NULL if it need not be, or a shard has it.
ALTER TABLE findings ADD COLUMN revisit_at INTEGER;
ALTER TABLE findings ADD COLUMN revisit_vantage TEXT;
-- Visits that were made, or that a shard has.
ALTER TABLE findings ADD COLUMN visits INTEGER NOT NULL DEFAULT 0;
CREATE INDEX findings_revisit ON findings (campaign, revisit_at) WHERE revisit_at IS NOT NULL;
