"""The other end of the fleet: one program that has all hosts, and sends their callbacks."""
