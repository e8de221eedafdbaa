-- Silences: what somebody wants no callbacks of, until when, and why. "id" is the number that a
-- silence's id is in hexadecimal, "said" is JSON of all else that agent.model.Silence has. What is
-- owed to webhooks for the time of a silence stands with the device ("debt" in devices.identity),
-- so that one row is all that ends it.
-- The whole schema is to fit the first page of the file (see 0004), and now all but fills it:
-- the table of the leases is written down shorter to make room.
CREATE TEMP TABLE held AS
    SELECT id, udid, holder, purpose, acquired_ms, ttl, expires_ms, taken FROM leases;
DROP TABLE leases;
CREATE TABLE leases(id TEXT PRIMARY KEY CHECK(id<>''),udid TEXT NOT NULL,holder TEXT NOT NULL,purpose TEXT NOT NULL,acquired_ms INTEGER NOT NULL,ttl REAL NOT NULL CHECK(ttl>0),expires_ms INTEGER NOT NULL,taken TEXT NOT NULL)STRICT;
INSERT INTO leases SELECT * FROM held;
DROP TABLE held;
CREATE TABLE silences(id INTEGER PRIMARY KEY,said TEXT NOT NULL)STRICT;
