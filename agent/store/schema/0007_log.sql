-- The transitions as a log that a fleet's hub follows (agent.store.tables.log); rows of `meta`:
--   epoch:       random, made with the file and by each salvage: ids of two epochs have nothing to
--                do with each other.
--   fleet_acked: the hub has stored everything up to that id; -1: this agent is in no fleet.
INSERT INTO meta (key, value) VALUES ('epoch', random() & 0x7fffffffffffffff), ('fleet_acked', -1);
