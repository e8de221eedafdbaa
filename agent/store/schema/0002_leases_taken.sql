-- From whom a lease was taken, and why; '' for one that was free.
ALTER TABLE leases ADD COLUMN taken TEXT NOT NULL DEFAULT '';
