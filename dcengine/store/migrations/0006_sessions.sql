-- Sessions: processes in which state stays from call to call. A row outlives its process, so that the loss can be told.

CREATE TABLE session (
    name TEXT PRIMARY KEY,
    job INTEGER NOT NULL,  -- the one that began it
    worker TEXT NOT NULL,
    began INTEGER NOT NULL,
    lost TEXT,  -- what became of its process; NULL: it lives
    lost_at INTEGER,
    told INTEGER  -- jobs up to this one expected what was lost; NULL: nobody was told yet
) STRICT;
