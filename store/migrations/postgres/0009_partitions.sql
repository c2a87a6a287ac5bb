-- What a campaign observed, and the nonces that it used, are in tables of its own: to remove it is to drop them. Each has its own key, since no
-- row moves between them; they are written and read by their names.
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
) PARTITION BY LIST (campaign);

CREATE TABLE ajar.nonces (
    campaign text COLLATE "C" NOT NULL,
    nonce    text COLLATE "C" NOT NULL,
    finding  bigint NOT NULL
) PARTITION BY LIST (campaign);

DO $$
DECLARE
    id text;
BEGIN
    FOR id IN SELECT c.id FROM ajar.campaigns c LOOP
        EXECUTE format('CREATE TABLE ajar.%I PARTITION OF ajar.observations
            (PRIMARY KEY (finding, vantage, round)) FOR VALUES IN (%L)', 'observations_' || lower(id), id);
        EXECUTE format('CREATE TABLE ajar.%I PARTITION OF ajar.nonces
            (PRIMARY KEY (nonce, finding)) FOR VALUES IN (%L)', 'nonces_' || lower(id), id);
    END LOOP;
END $$;
INSERT INTO ajar.observations
    SELECT f.campaign, o.finding, o.vantage, o.round, o.started_at, o.finished_at, o.visit, o.evidence
    FROM ajar.all_observations o JOIN ajar.findings f ON f.row = o.finding;
INSERT INTO ajar.nonces
    SELECT f.campaign, n.nonce, n.finding FROM ajar.all_nonces n JOIN ajar.findings f ON f.row = n.finding;
DROP TABLE ajar.all_observations;
DROP TABLE ajar.all_nonces;
