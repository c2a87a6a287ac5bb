-- The vantage point of the worker that a token was issued to; NULL where it was only the worker's own word.
ALTER TABLE tokens ADD COLUMN vantage TEXT;
