-- A mail of no finding, as far as was looked: nobody looks again until it is old or its observation comes.
ALTER TABLE ajar.sightings ADD COLUMN stray boolean NOT NULL DEFAULT false;
DROP INDEX ajar.sightings_unjudged;
CREATE INDEX sightings_new ON ajar.sightings (received_at) WHERE NOT judged AND NOT stray;
CREATE INDEX sightings_stray ON ajar.sightings (received_at) WHERE stray;
