"""Whether a session is using a phone: one module per source of that knowledge."""
