-- Which platforms there are, the model says (agent.model.Platform), and what is written and read
-- goes through it: a new one needs no new schema. A column's CHECK goes with its column alone. At no
-- step does the schema grow: it is to fit the file's first page (see 0004).
CREATE TEMP TABLE known (udid TEXT PRIMARY KEY, platform TEXT NOT NULL);
INSERT INTO known SELECT udid, platform FROM devices;
ALTER TABLE devices DROP COLUMN platform;
ALTER TABLE devices ADD COLUMN platform TEXT NOT NULL DEFAULT '';
UPDATE devices SET platform = (SELECT platform FROM known WHERE known.udid = devices.udid);
DROP TABLE known;
