-- When a canary came, and when it was last heard of. Those of older versions say neither.
ALTER TABLE canaries ADD COLUMN first_seen INTEGER;
ALTER TABLE canaries ADD COLUMN last_seen INTEGER;
