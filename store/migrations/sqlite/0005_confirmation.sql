-- When what is open is visited once more, in seconds; NULL if it is not.
ALTER TABLE campaigns ADD COLUMN confirm_after INTEGER;

-- Rounds: 0 looks for open doors, 1 and more confirm what was found.
ALTER TABLE shards ADD COLUMN round INTEGER NOT NULL DEFAULT 0;
ALTER TABLE findings ADD COLUMN revisit_round INTEGER NOT NULL DEFAULT 0;

-- The round is part of the key, which SQLite sets for a new table only.
CREATE TABLE observations_by_round (
    finding     INTEGER NOT NULL REFERENCES findings (row),
    vantage     TEXT NOT NULL,
    round       INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    visit       INTEGER NOT NULL,
    evidence    TEXT NOT NULL,
    PRIMARY KEY (finding, vantage, round)
) STRICT;
INSERT INTO observations_by_round
    SELECT finding, vantage, 0, started_at, finished_at, visit, evidence FROM observations;
DROP TABLE observations;
ALTER TABLE observations_by_round RENAME TO observations;
