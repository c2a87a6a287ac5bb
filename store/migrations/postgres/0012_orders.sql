-- The authorization that a campaign runs under, counted: a lease of an older one is not renewed.
ALTER TABLE ajar.campaigns ADD COLUMN revision bigint NOT NULL DEFAULT 0;
ALTER TABLE ajar.shards ADD COLUMN revision bigint NOT NULL DEFAULT 0;

-- Tenants for which nothing may be sent until somebody starts them again; the empty name stands for all.
CREATE TABLE ajar.stops (
    tenant     text COLLATE "C" PRIMARY KEY,
    stopped_at timestamptz NOT NULL,
    stopped_by text NOT NULL
);
