-- A mail of no finding, as far as was looked: nobody looks again until it is old or its observation comes.
ALTER TABLE sightings ADD COLUMN stray INTEGER NOT NULL DEFAULT 0;
DROP INDEX sightings_unjudged;
CREATE INDEX sightings_new ON sightings (received_at) WHERE NOT judged AND NOT stray;
CREATE INDEX sightings_stray ON sightings (received_at) WHERE stray;
