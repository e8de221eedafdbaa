"""What the agent must not forget: one SQLite file, one writer thread, one way in."""

from agent.store.calls import StoreHealth
from agent.store.database import SQLITE_VERSION
from agent.store.record import Record
from agent.store.store import Store, StoreFigures
from agent.store.tables.backlog import Backlog
from agent.store.tables.callbacks import Callbacks, PendingLane
from agent.store.tables.deliveries import DeliveryQuery, DeliveryRow
from agent.store.tables.elsewhere import Elsewhere, Followed, LaneHead, Outcome, Settled
from agent.store.tables.fleet import FleetRow
from agent.store.tables.transitions import StoredTransition

__all__ = [
    "SQLITE_VERSION",
    "Backlog",
    "Callbacks",
    "DeliveryQuery",
    "DeliveryRow",
    "Elsewhere",
    "FleetRow",
    "Followed",
    "LaneHead",
    "Outcome",
    "PendingLane",
    "Record",
    "Settled",
    "Store",
    "StoreFigures",
    "StoreHealth",
    "StoredTransition",
]
