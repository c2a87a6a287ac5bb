-- The last confirming round that a shard has, or had: it is not planned once more, from wherever it was made.
ALTER TABLE ajar.findings ADD COLUMN planned_round bigint NOT NULL DEFAULT 0;
UPDATE ajar.findings f SET planned_round = s.round FROM (
    SELECT campaign, e.value, max(round) AS round FROM ajar.shards, jsonb_array_elements_text(endpoints) e
    WHERE round > 0 GROUP BY campaign, e.value
) s WHERE f.campaign = s.campaign
    AND s.value = CASE family(f.ip) WHEN 4 THEN host(f.ip) ELSE '[' || host(f.ip) || ']' END || ':' || f.port;
