-- Campaigns that are run again and again.
CREATE TABLE schedules (
    name       TEXT PRIMARY KEY,
    cron       TEXT NOT NULL,
    time_zone  TEXT NOT NULL,
    spec       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    paused     INTEGER NOT NULL,
    -- Every time up to this one was dealt with.
    handled_at INTEGER NOT NULL
) STRICT;

-- What became of a time: a campaign, or why there was none. The key is what keeps a time from being run twice.
CREATE TABLE scheduled_runs (
    schedule TEXT NOT NULL REFERENCES schedules (name) ON DELETE CASCADE,
    at       INTEGER NOT NULL,
    campaign TEXT,
    cause    TEXT,
    PRIMARY KEY (schedule, at),
    CHECK ((campaign IS NULL) <> (cause IS NULL))
) STRICT;
