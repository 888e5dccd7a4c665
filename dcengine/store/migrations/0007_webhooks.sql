-- Webhooks: who is told over HTTP what becomes of a project, and what is still to be told.

CREATE TABLE webhook (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: who has kept an old one removes no other
    project INTEGER NOT NULL REFERENCES project,
    url TEXT NOT NULL,
    secret BLOB NOT NULL,  -- as it is: what is sent is signed with it
    events TEXT NOT NULL,  -- names with a space between
    created INTEGER NOT NULL,
    in_vain INTEGER NOT NULL DEFAULT 0,  -- deliveries in a row that have failed
    off INTEGER,  -- since when it is told nothing; NULL: it is
    off_reason TEXT
) STRICT;

CREATE INDEX webhook_project ON webhook (project);

CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook INTEGER NOT NULL REFERENCES webhook,
    name TEXT NOT NULL,  -- random; the same at each try, so that who is told twice can notice
    event TEXT NOT NULL,
    body BLOB NOT NULL,
    created INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    due INTEGER,  -- the next try; NULL: it is over
    finished INTEGER,
    status INTEGER,  -- of the last answer
    reason TEXT  -- why the last try failed
) STRICT;

CREATE INDEX delivery_due ON delivery (webhook, due) WHERE due IS NOT NULL;
CREATE INDEX delivery_webhook ON delivery (webhook, id);

-- Jobs that were cancelled are looked for as those that have failed.
CREATE INDEX job_cancelled ON job (id) WHERE state = 3;
