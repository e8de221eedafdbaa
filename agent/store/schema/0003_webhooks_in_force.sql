-- 1: it stands in the configuration that was last in force. One that is renamed there keeps its id;
-- the id of one that was deleted is never given to another.
ALTER TABLE webhooks ADD COLUMN in_force INTEGER NOT NULL DEFAULT 0 CHECK (in_force IN (0, 1));
