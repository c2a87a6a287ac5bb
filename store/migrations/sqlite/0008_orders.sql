-- The authorization that a campaign runs under, counted: a lease of an older one is not renewed.
ALTER TABLE campaigns ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE shards ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;

-- Tenants for which nothing may be sent until somebody starts them again; the empty name stands for all.
CREATE TABLE stops (
    tenant     TEXT PRIMARY KEY,
    stopped_at INTEGER NOT NULL,
    stopped_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
