"""Clients of protocols, no policy: what sources, usage, doctor and the commands all speak."""
