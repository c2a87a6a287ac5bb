-- Campaigns that are run again and again.
CREATE TABLE ajar.schedules (
    name       text COLLATE "C" PRIMARY KEY,
    cron       text NOT NULL,
    time_zone  text NOT NULL,
    spec       json NOT NULL,
    created_at timestamptz NOT NULL,
    paused     boolean NOT NULL,
    -- Every time up to this one was dealt with.
    handled_at timestamptz NOT NULL
);

-- What became of a time: a campaign, or why there was none. The key is what keeps a time from being run twice.
CREATE TABLE ajar.scheduled_runs (
    schedule text COLLATE "C" NOT NULL REFERENCES ajar.schedules (name) ON DELETE CASCADE,
    at       timestamptz NOT NULL,
    campaign text COLLATE "C",
    cause    text,
    PRIMARY KEY (schedule, at),
    CHECK ((campaign IS NULL) <> (cause IS NULL))
);
