-- The first schema. Times are wall-clock milliseconds since the Unix epoch.
-- A migration is never edited once released: a change is a new file with the next number.

-- Single numbers of the store itself.
--   batch: the number of the last committed batch; tells, after a COMMIT that failed in an
--          unknown way, whether it was stored.
--   webhook_floor: ids given to webhooks are above it; raised when ids were lost to corruption.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO meta (key, value) VALUES ('batch', 0), ('webhook_floor', 0);

-- The last state of every device ever seen. Rows are never deleted.
CREATE TABLE devices (
    udid     TEXT PRIMARY KEY CHECK (udid <> ''),
    platform TEXT NOT NULL CHECK (platform IN ('android', 'ios')),
    state    TEXT NOT NULL CHECK (state IN ('online', 'offline', 'utilizing', 'unplugged')),
    since_ms INTEGER NOT NULL,
    name     TEXT NOT NULL,
    model    TEXT NOT NULL,
    port     TEXT NOT NULL,
    reason   TEXT NOT NULL,
    holder   TEXT NOT NULL
) STRICT;

-- What each device went through; the newest one of a device is kept for ever.
CREATE TABLE transitions (
    id       INTEGER PRIMARY KEY,
    udid     TEXT NOT NULL REFERENCES devices (udid),
    previous TEXT CHECK (previous IN ('online', 'offline', 'utilizing', 'unplugged')),
    state    TEXT NOT NULL CHECK (state IN ('online', 'offline', 'utilizing', 'unplugged')),
    reason   TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    holder   TEXT NOT NULL,
    CHECK (previous IS NULL OR previous <> state)
) STRICT;
CREATE INDEX transitions_of_device ON transitions (udid);
CREATE INDEX transitions_by_age ON transitions (at_ms);

-- Every id a webhook ever had. Rows are never deleted, so no id is ever given twice.
--   explicit: 1 when the config named it, 0 when the store gave it (once per name).
--   taken:    counts up whenever an id is taken; the latest explicit id of a name has the highest.
CREATE TABLE webhooks (
    id       INTEGER PRIMARY KEY,
    org_id   INTEGER NOT NULL,
    name     TEXT NOT NULL CHECK (name <> ''),
    explicit INTEGER NOT NULL CHECK (explicit IN (0, 1)),
    taken    INTEGER NOT NULL
) STRICT;
CREATE INDEX webhooks_by_name ON webhooks (org_id, name);
CREATE UNIQUE INDEX webhooks_given_once ON webhooks (org_id, name) WHERE explicit = 0;

-- The outbox. AUTOINCREMENT: ids are the order of sending and the dispatcher's cursor, so an id
-- must not come back after its row was deleted.
CREATE TABLE callbacks (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id   TEXT NOT NULL UNIQUE CHECK (message_id <> ''),
    webhook_id   INTEGER NOT NULL,
    udid         TEXT NOT NULL CHECK (udid <> ''),
    created_ms   INTEGER NOT NULL,
    body         BLOB NOT NULL CHECK (length(body) > 0),
    headers      TEXT NOT NULL CHECK (headers <> ''),
    device_state TEXT CHECK (device_state IN ('online', 'offline', 'utilizing', 'unplugged')),
    state        TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead', 'cancelled')),
    attempts     INTEGER NOT NULL CHECK (attempts >= 0),
    due_ms       INTEGER NOT NULL CHECK (due_ms >= 0),
    finished_ms  INTEGER,
    CHECK ((state = 'pending') = (finished_ms IS NULL)),
    CHECK (state <> 'delivered' OR attempts > 0)
) STRICT;
-- Partial: what is finished costs the lanes nothing.
-- `state` is in it so that counting needs no look at the rows.
CREATE INDEX callbacks_pending ON callbacks (webhook_id, udid, id, state) WHERE state = 'pending';
CREATE INDEX callbacks_finished ON callbacks (finished_ms) WHERE finished_ms IS NOT NULL;

CREATE TABLE attempts (
    callback_id INTEGER NOT NULL REFERENCES callbacks (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL CHECK (number > 0),
    started_ms  INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    status      INTEGER,
    error       TEXT NOT NULL,
    answer      TEXT NOT NULL,
    PRIMARY KEY (callback_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    id          TEXT PRIMARY KEY CHECK (id <> ''),
    udid        TEXT NOT NULL,
    holder      TEXT NOT NULL,
    purpose     TEXT NOT NULL,
    acquired_ms INTEGER NOT NULL,
    ttl         REAL NOT NULL CHECK (ttl > 0),
    expires_ms  INTEGER NOT NULL
) STRICT;
