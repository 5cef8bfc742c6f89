-- What the site tells everybody: one row or none.
CREATE TABLE notice (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    text        TEXT NOT NULL,
    maintenance INTEGER NOT NULL,
    at          INTEGER NOT NULL
) STRICT;

-- When a token was last used, to the minute.
ALTER TABLE tokens ADD COLUMN used_at INTEGER;

-- What people used, by day (UTC, YYYY-MM-DD); units are those of `accounting::Used`.
CREATE TABLE usage (
    day      TEXT NOT NULL,
    account  TEXT NOT NULL,
    seconds  INTEGER NOT NULL,
    cpu      INTEGER NOT NULL,
    used_cpu INTEGER NOT NULL,
    memory   INTEGER NOT NULL,
    storage  INTEGER NOT NULL,
    PRIMARY KEY (day, account)
) STRICT, WITHOUT ROWID;

-- The last sample of it: one row or none.
CREATE TABLE usage_sample (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at  INTEGER NOT NULL
) STRICT;
