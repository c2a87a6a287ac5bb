-- The version of the rules by which a campaign's findings were judged; 0 for those before there were versions.
ALTER TABLE campaigns ADD COLUMN judge INTEGER NOT NULL DEFAULT 0;
CREATE INDEX campaigns_judge ON campaigns (judge);
