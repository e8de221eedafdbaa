"""Device agent: tells other systems when a lab phone goes online, offline, in use or unplugged."""

__version__ = "1.0.0"
