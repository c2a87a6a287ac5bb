-- The coordinators that are there.
CREATE TABLE coordinators (
    name    TEXT PRIMARY KEY,
    -- The only campaign that it runs; NULL if it runs all that no single process drives.
    drives  TEXT,
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Campaigns that a coordinator refuses to run, and since when.
CREATE TABLE refusals (
    coordinator TEXT NOT NULL,
    campaign    TEXT NOT NULL,
    since       INTEGER NOT NULL,
    PRIMARY KEY (coordinator, campaign)
) STRICT, WITHOUT ROWID;
