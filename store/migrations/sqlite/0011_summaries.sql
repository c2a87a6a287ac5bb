-- How many (address, port) pairs a campaign has; NULL if an older version started it.
ALTER TABLE campaigns ADD COLUMN pairs INTEGER;
CREATE INDEX campaigns_listed ON campaigns (created_at, id);
-- Outcomes before the cursors of sweeps are counted like findings.
INSERT INTO counts
    SELECT campaign, 0, 'finished', sum(answered + refused + silent + unreachable + denied + failed)
    FROM shards WHERE visit IS NULL GROUP BY campaign;
