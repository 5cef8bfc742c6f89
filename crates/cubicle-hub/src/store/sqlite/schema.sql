-- All times are milliseconds since the epoch. All secrets are SHA-256 digests.
CREATE TABLE accounts (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    -- UserName::key: two spellings of one name are one account.
    key        TEXT NOT NULL UNIQUE,
    -- argon2id in PHC form; none for an account that only ever came by link.
    password   TEXT,
    admin      INTEGER NOT NULL,
    disabled   INTEGER NOT NULL DEFAULT 0,
    -- JSON array of group names.
    groups     TEXT NOT NULL DEFAULT '[]',
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    digest     BLOB PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_account ON sessions (account);

-- Cookies of workspace origins; they die with the session.
CREATE TABLE grants (
    digest    BLOB PRIMARY KEY,
    session   BLOB NOT NULL REFERENCES sessions (digest) ON DELETE CASCADE,
    workspace TEXT NOT NULL
) STRICT;
CREATE INDEX grants_by_session ON grants (session);
CREATE INDEX grants_by_workspace ON grants (workspace);

CREATE TABLE tickets (
    digest     BLOB PRIMARY KEY,
    session    BLOB NOT NULL REFERENCES sessions (digest) ON DELETE CASCADE,
    workspace  TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX tickets_by_session ON tickets (session);

CREATE TABLE links (
    digest     BLOB PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX links_by_account ON links (account);

CREATE TABLE tokens (
    digest     BLOB PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    account    TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    scope      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX tokens_by_account ON tokens (account);
