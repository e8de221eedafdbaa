"""What the agent must not forget: one SQLite file, one writer thread, one way in."""

from agent.store.inspect import SQLITE_VERSION, Inspection, StoreState, inspect
from agent.store.rows import (
    DeliveryQuery,
    DeliveryRow,
    PendingLane,
    StoredTransition,
    StoreFigures,
    StoreHealth,
)
from agent.store.store import Store

__all__ = [
    "SQLITE_VERSION",
    "DeliveryQuery",
    "DeliveryRow",
    "Inspection",
    "PendingLane",
    "Store",
    "StoreFigures",
    "StoreHealth",
    "StoreState",
    "StoredTransition",
    "inspect",
]
