"""What the agent must not forget: one SQLite file, one writer thread, one way in."""

from agent.store.rows import DeliveryQuery, DeliveryRow, PendingLane, StoreFigures, StoreHealth
from agent.store.store import Store

__all__ = [
    "DeliveryQuery",
    "DeliveryRow",
    "PendingLane",
    "Store",
    "StoreFigures",
    "StoreHealth",
]
