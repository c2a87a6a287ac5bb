-- What campaigns observed, and their nonces, are in tables by the month of their ids: there are as many as months, not as many as
-- campaigns. What began before 2027 is in the first. Each has its own key, since no row moves between them; they are written and
-- read by their names, but for a look-up by a nonce.
ALTER TABLE ajar.observations RENAME TO all_observations;
ALTER TABLE ajar.nonces RENAME TO all_nonces;

CREATE TABLE ajar.observations (
    campaign    text COLLATE "C" NOT NULL,
    finding     bigint NOT NULL,
    vantage     text COLLATE "C" NOT NULL,
    round       bigint NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    visit       bigint NOT NULL,
    evidence    json NOT NULL
) PARTITION BY RANGE (campaign);

CREATE TABLE ajar.nonces (
    campaign text COLLATE "C" NOT NULL,
    nonce    text COLLATE "C" NOT NULL,
    finding  bigint NOT NULL
) PARTITION BY RANGE (campaign);

CREATE TABLE ajar.observations_first PARTITION OF ajar.observations (PRIMARY KEY (finding, vantage, round))
    FOR VALUES FROM (MINVALUE) TO ('01MB78QN000000000000000000');
CREATE TABLE ajar.nonces_first PARTITION OF ajar.nonces (PRIMARY KEY (nonce, finding))
    FOR VALUES FROM (MINVALUE) TO ('01MB78QN000000000000000000');
INSERT INTO ajar.observations (campaign, finding, vantage, round, started_at, finished_at, visit, evidence)
    SELECT campaign, finding, vantage, round, started_at, finished_at, visit, evidence FROM ajar.all_observations;
INSERT INTO ajar.nonces (campaign, nonce, finding) SELECT campaign, nonce, finding FROM ajar.all_nonces;
DROP TABLE ajar.all_observations;
DROP TABLE ajar.all_nonces;

ALTER TABLE ajar.observations ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON ajar.observations FOR SELECT USING (campaign IN (SELECT id FROM ajar.campaigns));
DO $$
DECLARE
    reader name;
BEGIN
    FOR reader IN SELECT role FROM ajar.readers r WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = r.role) LOOP
        EXECUTE format('GRANT SELECT ON ajar.observations TO %I', reader);
    END LOOP;
END $$;

-- Campaigns that were removed and of which rows are left. They are deleted a few at a time.
CREATE TABLE ajar.removed (
    campaign   text COLLATE "C" PRIMARY KEY,
    removed_at timestamptz NOT NULL
);
ALTER TABLE ajar.shards DROP CONSTRAINT shards_campaign_fkey;
UPDATE ajar.compatible SET oldest = 22;
