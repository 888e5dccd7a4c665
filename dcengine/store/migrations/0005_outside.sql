-- Outside workers: who may do what, who is banned, which protocol old clients speak to a project.

ALTER TABLE project ADD COLUMN protocol TEXT NOT NULL DEFAULT '';  -- what is spoken at /p/NAME/; empty: nothing
ALTER TABLE project ADD COLUMN is_open INTEGER NOT NULL DEFAULT 0;  -- anybody may lease its tasks, without a token

-- Tokens by their sha256: who reads the file cannot use them.
CREATE TABLE token (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    role TEXT NOT NULL,
    project INTEGER REFERENCES project,  -- the only one whose tasks a worker may lease
    nickname TEXT,  -- who earns the credit, whatever the worker says
    note TEXT NOT NULL DEFAULT '',
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER
) STRICT;

ALTER TABLE contributor ADD COLUMN banned INTEGER;  -- since when nothing is taken from it; NULL: it is welcome

-- Outside workers that were given an identity of their own, since their protocol has nothing else.
CREATE TABLE worker (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,  -- sha256 of its secret
    project INTEGER NOT NULL REFERENCES project,
    stage TEXT NOT NULL,
    name TEXT NOT NULL,
    nickname TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    completed INTEGER NOT NULL DEFAULT 0,  -- tasks
    progress TEXT NOT NULL DEFAULT '',
    UNIQUE (project, name)
) STRICT;
