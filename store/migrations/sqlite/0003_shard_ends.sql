-- Targets beyond the cursor that answered.
ALTER TABLE shards ADD COLUMN ahead_answered INTEGER NOT NULL DEFAULT 0;
-- What the worker said that failed last since the cursor moved.
ALTER TABLE shards ADD COLUMN cause TEXT;
