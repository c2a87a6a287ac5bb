-- Each tenant has names of its own; and when a schedule is to be looked at again, NULL for at once.
ALTER TABLE ajar.schedules ADD COLUMN tenant text COLLATE "C", ADD COLUMN next_at timestamptz;
ALTER TABLE ajar.scheduled_runs ADD COLUMN tenant text COLLATE "C";
UPDATE ajar.schedules SET tenant = spec->>'tenant';
UPDATE ajar.scheduled_runs r SET tenant = s.tenant FROM ajar.schedules s WHERE s.name = r.schedule;
ALTER TABLE ajar.scheduled_runs DROP CONSTRAINT scheduled_runs_schedule_fkey, DROP CONSTRAINT scheduled_runs_pkey,
    ALTER COLUMN tenant SET NOT NULL;
ALTER TABLE ajar.schedules DROP CONSTRAINT schedules_pkey, ADD PRIMARY KEY (tenant, name);
ALTER TABLE ajar.scheduled_runs ADD PRIMARY KEY (tenant, schedule, at),
    ADD FOREIGN KEY (tenant, schedule) REFERENCES ajar.schedules (tenant, name) ON DELETE CASCADE;
