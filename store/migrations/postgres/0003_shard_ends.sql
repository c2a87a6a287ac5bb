-- Targets beyond the cursor that answered.
ALTER TABLE ajar.shards ADD COLUMN ahead_answered bigint NOT NULL DEFAULT 0;
-- What the worker said that failed last since the cursor moved.
ALTER TABLE ajar.shards ADD COLUMN cause text;
