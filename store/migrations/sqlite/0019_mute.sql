-- The addresses of a campaign that is over which took connections and said nothing, as JSON: to find them reads all its findings.
ALTER TABLE campaigns ADD COLUMN mute TEXT;
