-- The oldest schema whose programs may use this store. A script that those of an earlier one would stumble over, or whose orders they
-- would not obey, sets it to its own number.
CREATE TABLE ajar.compatible (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    oldest bigint NOT NULL
);
INSERT INTO ajar.compatible (oldest) VALUES (20);
