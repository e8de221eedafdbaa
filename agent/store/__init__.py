"""What the agent must not forget: one SQLite file, one writer thread, one way in."""

from agent.store.calls import StoreHealth
from agent.store.inspect import SQLITE_VERSION, Inspection, StoreState, inspect
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
    "Inspection",
    "LaneHead",
    "Outcome",
    "PendingLane",
    "Record",
    "Settled",
    "Store",
    "StoreFigures",
    "StoreHealth",
    "StoreState",
    "StoredTransition",
    "inspect",
]
