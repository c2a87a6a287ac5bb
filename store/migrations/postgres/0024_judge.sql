-- The version of the rules that judged a campaign's findings. Before versions it is 0.
ALTER TABLE ajar.campaigns ADD COLUMN judge bigint NOT NULL DEFAULT 0;
CREATE INDEX campaigns_judge ON ajar.campaigns (judge);
