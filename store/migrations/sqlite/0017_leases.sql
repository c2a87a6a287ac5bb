-- Leases, in rows of their own: a renewal is every second's business, and writes nothing that has an index.
CREATE TABLE leases (
    campaign TEXT NOT NULL,
    number   INTEGER NOT NULL,
    token    INTEGER NOT NULL,
    owner    TEXT NOT NULL,
    rate     INTEGER NOT NULL,
    -- The campaign's revision when it was granted.
    revision INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    -- The last renewal that moved its rate.
    renewal  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign, number)
) STRICT, WITHOUT ROWID;
INSERT INTO leases (campaign, number, token, owner, rate, revision, until)
SELECT campaign, number, token, owner, rate, revision, lease_until FROM shards
WHERE lease_until IS NOT NULL AND token IS NOT NULL AND owner IS NOT NULL;

-- What the leases of each campaign have together: the transaction that changes a lease changes this too.
CREATE TABLE rates (
    campaign TEXT PRIMARY KEY,
    rate     INTEGER NOT NULL,
    leases   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO rates SELECT c.id, coalesce(sum(l.rate), 0), count(l.number) FROM campaigns c
LEFT JOIN leases l ON l.campaign = c.id GROUP BY c.id;
CREATE INDEX campaigns_authorization ON campaigns (authorization_id);

DELETE FROM lease_blocks
WHERE NOT EXISTS (SELECT 1 FROM leases l WHERE l.campaign = lease_blocks.campaign AND l.number = lease_blocks.number);
DROP INDEX shards_leased;
ALTER TABLE shards DROP COLUMN lease_until;
ALTER TABLE shards DROP COLUMN rate;
ALTER TABLE shards DROP COLUMN owner;
ALTER TABLE shards DROP COLUMN revision;
UPDATE compatible SET oldest = 17;
