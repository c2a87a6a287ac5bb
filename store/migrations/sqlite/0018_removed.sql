-- Campaigns that were removed and of which rows are left: none, since one file deletes them at once.
CREATE TABLE removed (
    campaign   TEXT PRIMARY KEY,
    removed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
