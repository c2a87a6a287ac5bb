-- When what is open is visited once more, in seconds; NULL if it is not.
ALTER TABLE ajar.campaigns ADD COLUMN confirm_after bigint;

-- Rounds: 0 looks for open doors, 1 and more confirm what was found.
ALTER TABLE ajar.shards ADD COLUMN round bigint NOT NULL DEFAULT 0;
ALTER TABLE ajar.findings ADD COLUMN revisit_round bigint NOT NULL DEFAULT 0;
ALTER TABLE ajar.observations ADD COLUMN round bigint NOT NULL DEFAULT 0;
ALTER TABLE ajar.observations DROP CONSTRAINT observations_pkey,
    ADD PRIMARY KEY (finding, vantage, round);
