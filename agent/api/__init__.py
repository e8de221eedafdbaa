"""The agent's own API: HTTP/JSON on a unix socket for everything, on TCP for reading."""
