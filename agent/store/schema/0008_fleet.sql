-- What a hub knows of its fleet: what each host last told of each device, and where it goes on.
-- "udid" is '' in the host's own row, "host" as well in the one of the broker's stream; "said" is
-- JSON (agent.fleet.hub.stored). And at which host a device was when it made a transition.
-- The whole schema is to fit the first page of the file (see 0004), so the text of every table
-- before this is written down shorter, which is all that SQLite keeps of it: blanks and line breaks
-- go, nothing else (https://www.sqlite.org/lang_altertable.html, section 8).
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(replace(replace(replace(replace(replace(replace(replace(
    sql, char(10), ' '), '    ', ' '), '  ', ' '), '  ', ' '), ', ', ','), ' ,', ','), ' (', '('), '( ', '('), ' )', ')');
PRAGMA writable_schema = RESET;
CREATE TABLE fleet(host TEXT NOT NULL,udid TEXT NOT NULL,said TEXT NOT NULL,PRIMARY KEY(host,udid))STRICT,WITHOUT ROWID;
ALTER TABLE transitions ADD COLUMN host TEXT NOT NULL DEFAULT '';
