-- Leases, in rows of their own: a renewal is every second's business, and writes nothing that has an index.
CREATE TABLE ajar.leases (
    campaign text COLLATE "C" NOT NULL,
    number   bigint NOT NULL,
    token    bigint NOT NULL,
    owner    text NOT NULL,
    rate     bigint NOT NULL,
    -- The campaign's revision when it was granted.
    revision bigint NOT NULL,
    until    timestamptz NOT NULL,
    -- The last renewal that moved its rate.
    renewal  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign, number)
) WITH (fillfactor = 50);
INSERT INTO ajar.leases (campaign, number, token, owner, rate, revision, until)
SELECT campaign, number, token, owner, rate, revision, lease_until FROM ajar.shards
WHERE lease_until IS NOT NULL AND token IS NOT NULL AND owner IS NOT NULL;

-- What the leases of each campaign have together: the transaction that changes a lease changes this too.
CREATE TABLE ajar.rates (
    campaign text COLLATE "C" PRIMARY KEY,
    rate     bigint NOT NULL,
    leases   bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO ajar.rates SELECT c.id, coalesce(sum(l.rate), 0), count(l.number) FROM ajar.campaigns c
LEFT JOIN ajar.leases l ON l.campaign = c.id GROUP BY c.id;
CREATE INDEX campaigns_authorization ON ajar.campaigns (authorization_id);

DELETE FROM ajar.lease_blocks b
WHERE NOT EXISTS (SELECT 1 FROM ajar.leases l WHERE l.campaign = b.campaign AND l.number = b.number);
DROP INDEX ajar.shards_leased;
ALTER TABLE ajar.shards DROP COLUMN lease_until, DROP COLUMN rate, DROP COLUMN owner, DROP COLUMN revision;
UPDATE ajar.compatible SET oldest = 21;
