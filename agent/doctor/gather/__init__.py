"""Reading facts: each module one part of the machine, within its limit, raising nothing."""
