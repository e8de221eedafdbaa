-- Where a device hangs, in names that outlive a reboot, and how it is told from others.
--   path:    the USB port as udev's ID_PATH has it; '' where udev never told it.
--   address: where adb last reached it on the network.
--   serial:  as it is compared, where that is not the UDID itself.
--   shared:  1: another phone has that serial too.
--   ways:    by which sources it was seen since it last came; '' in rows older than this column.
ALTER TABLE devices ADD COLUMN path TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN serial TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN shared INTEGER NOT NULL DEFAULT 0 CHECK (shared IN (0, 1));
ALTER TABLE devices ADD COLUMN ways TEXT NOT NULL DEFAULT '';
