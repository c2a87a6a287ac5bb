-- How many (address, port) pairs a campaign has; NULL if an older version started it.
ALTER TABLE ajar.campaigns ADD COLUMN pairs bigint;
CREATE INDEX campaigns_listed ON ajar.campaigns (created_at, id);
-- Outcomes before the cursors of sweeps are counted like findings.
INSERT INTO ajar.counts
    SELECT campaign, 0, 'finished', sum(answered + refused + silent + unreachable + denied + failed)
    FROM ajar.shards WHERE visit IS NULL GROUP BY campaign;
