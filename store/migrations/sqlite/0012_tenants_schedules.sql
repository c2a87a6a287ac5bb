-- Each tenant has names of its own; and when a schedule is to be looked at again, NULL for at once. SQLite sets keys for new
-- tables only.
CREATE TABLE schedules_by_tenant (
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    cron       TEXT NOT NULL,
    time_zone  TEXT NOT NULL,
    spec       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    paused     INTEGER NOT NULL,
    -- Every time up to this one was dealt with.
    handled_at INTEGER NOT NULL,
    next_at    INTEGER,
    PRIMARY KEY (tenant, name)
) STRICT;
INSERT INTO schedules_by_tenant
    SELECT json_extract(spec, '$.tenant'), name, cron, time_zone, spec, created_at, paused, handled_at, NULL FROM schedules;
CREATE TABLE runs_by_tenant (
    tenant   TEXT NOT NULL,
    schedule TEXT NOT NULL,
    at       INTEGER NOT NULL,
    campaign TEXT,
    cause    TEXT,
    PRIMARY KEY (tenant, schedule, at),
    FOREIGN KEY (tenant, schedule) REFERENCES schedules_by_tenant (tenant, name) ON DELETE CASCADE,
    CHECK ((campaign IS NULL) <> (cause IS NULL))
) STRICT;
INSERT INTO runs_by_tenant
    SELECT s.tenant, r.schedule, r.at, r.campaign, r.cause FROM scheduled_runs r JOIN schedules_by_tenant s ON s.name = r.schedule;
DROP TABLE scheduled_runs;
DROP TABLE schedules;
ALTER TABLE schedules_by_tenant RENAME TO schedules;
ALTER TABLE runs_by_tenant RENAME TO scheduled_runs;
