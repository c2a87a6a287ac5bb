-- When a canary came, and when it was last heard of. Those of older versions say neither.
ALTER TABLE ajar.canaries ADD COLUMN first_seen timestamptz, ADD COLUMN last_seen timestamptz;
