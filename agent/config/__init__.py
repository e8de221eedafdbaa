"""The configuration: TOML → frozen `Config`; all mistakes at once, with places."""

from agent.config.derived import Config
from agent.config.loader import check, draft, load, load_both, parse
from agent.config.model import (
    Agent,
    Android,
    Api,
    BasicAuth,
    BatterySection,
    BearerAuth,
    Delivery,
    DeviceEntry,
    Discovery,
    Flap,
    Hold,
    Ios,
    Section,
    Tls,
    UsageSection,
    UsageServer,
    Usb,
    Webhook,
)
from agent.config.schema import json_schema
from agent.config.show import format_problems
from agent.config.values import (
    MAX_DURATION,
    MAX_ID,
    MAX_SOCKET_PATH,
    format_duration,
    parse_duration,
)
from agent.config.warn import warnings

__all__ = [
    "MAX_DURATION",
    "MAX_ID",
    "MAX_SOCKET_PATH",
    "Agent",
    "Android",
    "Api",
    "BasicAuth",
    "BatterySection",
    "BearerAuth",
    "Config",
    "Delivery",
    "DeviceEntry",
    "Discovery",
    "Flap",
    "Hold",
    "Ios",
    "Section",
    "Tls",
    "UsageSection",
    "UsageServer",
    "Usb",
    "Webhook",
    "check",
    "draft",
    "format_duration",
    "format_problems",
    "json_schema",
    "load",
    "load_both",
    "parse",
    "parse_duration",
    "warnings",
]
