"""The only wiring: `parts` builds, `startup` begins, `reloader` changes what is in force."""

from agent.app.app import App

__all__ = ["App"]
