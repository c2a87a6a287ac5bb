-- The version of the rules by which a campaign's findings were judged; 0 for those before there were versions.
ALTER TABLE ajar.campaigns ADD COLUMN judge bigint NOT NULL DEFAULT 0;
CREATE INDEX campaigns_judge ON ajar.campaigns (judge);
