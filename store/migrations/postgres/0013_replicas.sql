-- The coordinators that are there.
CREATE TABLE ajar.coordinators (
    name    text COLLATE "C" PRIMARY KEY,
    -- The only campaign that it runs; NULL if it runs all that no single process drives.
    drives  text COLLATE "C",
    seen_at timestamptz NOT NULL
);

-- Campaigns that a coordinator refuses to run, and since when.
CREATE TABLE ajar.refusals (
    coordinator text COLLATE "C" NOT NULL,
    campaign    text COLLATE "C" NOT NULL,
    since       timestamptz NOT NULL,
    PRIMARY KEY (coordinator, campaign)
);
