-- The oldest schema whose programs may use this store. A script that those of an earlier one would stumble over, or whose orders they
-- would not obey, sets it to its own number.
CREATE TABLE compatible (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    oldest INTEGER NOT NULL
) STRICT;
INSERT INTO compatible VALUES (1, 16);
