-- What an account may do: admin, auditor or user.
ALTER TABLE accounts ADD COLUMN role TEXT NOT NULL DEFAULT 'user';
UPDATE accounts SET role = 'admin' WHERE admin = 1;
ALTER TABLE accounts DROP COLUMN admin;

-- Who vouches for the account, and as whom it is known there; none for local accounts.
ALTER TABLE accounts ADD COLUMN issuer TEXT;
ALTER TABLE accounts ADD COLUMN subject TEXT;
CREATE UNIQUE INDEX accounts_by_identity ON accounts (issuer, subject) WHERE issuer IS NOT NULL;

-- For programs: 1 for an account that nobody signs in to.
ALTER TABLE accounts ADD COLUMN service INTEGER NOT NULL DEFAULT 0;

-- The provider's own session behind ours, by which the provider ends it.
ALTER TABLE sessions ADD COLUMN issuer TEXT;
ALTER TABLE sessions ADD COLUMN provider_session TEXT;
