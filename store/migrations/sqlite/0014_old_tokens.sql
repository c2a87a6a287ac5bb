-- Tokens are forgotten after a week.
CREATE INDEX tokens_issued ON tokens (issued_at);
