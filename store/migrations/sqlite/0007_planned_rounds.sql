-- The last confirming round that a shard has, or had: it is not planned once more, from wherever it was made. A file's campaigns
-- that go on may confirm what they confirmed before.
ALTER TABLE findings ADD COLUMN planned_round INTEGER NOT NULL DEFAULT 0;
