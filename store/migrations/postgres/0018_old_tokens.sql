-- Tokens are forgotten after a week.
CREATE INDEX tokens_issued ON ajar.tokens (issued_at);
