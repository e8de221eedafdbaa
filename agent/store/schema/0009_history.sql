-- What a report of months is made of (agent.history). "why" is JSON of what is not empty of a
-- transition's code, cause and port. A row of "watching" is a time in which somebody looked: "sees"
-- is JSON of what could see then, "host" at a hub whose phones. A row of "days" is all that is
-- left of a whole UTC day once its transitions are old; "day" counts from 1970, "said" is packed.
-- The whole schema is to fit the first page of the file (see 0004).
ALTER TABLE transitions ADD COLUMN why TEXT NOT NULL DEFAULT '';
CREATE TABLE watching(host TEXT NOT NULL,start_ms INTEGER NOT NULL,end_ms INTEGER NOT NULL,sees TEXT)STRICT;
CREATE TABLE days(day INTEGER PRIMARY KEY,said BLOB)STRICT;
