-- How a device is told from others, in names that outlive a reboot: JSON of what is not empty, of
-- path, address, serial, shared and ways (agent.model.DeviceRecord says what they are). One column:
-- the whole schema fits the file's first page, so that salvage finds it in what is left of a file.
ALTER TABLE devices ADD COLUMN identity TEXT NOT NULL DEFAULT '';
