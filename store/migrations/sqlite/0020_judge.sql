-- The version of the rules that judged a campaign's findings. Before versions it is 0.
ALTER TABLE campaigns ADD COLUMN judge INTEGER NOT NULL DEFAULT 0;
CREATE INDEX campaigns_judge ON campaigns (judge);
