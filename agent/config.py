"""TOML → frozen `Config`: every key, its default and its rule; all mistakes at once, with places."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from agent.model import DeviceState, Platform, Visibility


def parse_duration(value: object) -> float:
    """Seconds of `"250ms"`, `"5s"`, `"2m"`, `"1h30m"`, `"3d"`; ValueError otherwise."""
    raise NotImplementedError


Duration = Annotated[float, BeforeValidator(parse_duration)]


class Section(BaseModel):
    """A table of the file: frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Agent(Section):
    org_id: int = 1
    state_dir: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "journal", "json"] = "auto"
    start_limit: Duration = 5.0


class Hold(Section):
    online: Duration = 0.0
    offline: Duration = 5.0
    utilizing: Duration = 0.0
    unplugged: Duration = 3.0
    source_grace: Duration = 30.0
    usage_grace: Duration = 60.0


class Usb(Section):
    enabled: bool = True


class Android(Section):
    enabled: bool = True
    adb_server: str = "127.0.0.1:5037"
    start_server: bool = True
    adb_path: str = ""
    network_devices: bool = False
    probe_interval: Duration = 60.0
    probe_timeout: Duration = 5.0


class Ios(Section):
    enabled: bool = True
    usbmuxd: str = "/var/run/usbmuxd"
    network_devices: bool = False
    probe_interval: Duration = 60.0
    probe_timeout: Duration = 10.0


class Flap(Section):
    transitions: int = 6
    window: Duration = 60.0
    hold: Duration = 30.0


class UsageSection(Section):
    interval: Duration = 5.0
    appium: tuple[str, ...] = ()
    grid: tuple[str, ...] = ()
    wda: bool = True
    uiautomator2: bool = True


class Api(Section):
    socket: str | None = None
    listen: str = "127.0.0.1:9178"


class Delivery(Section):
    timeout: Duration = 10.0
    concurrency: int = 8
    max_age: Duration = 72 * 3600.0
    retention: Duration = 30 * 86400.0


class Discovery(Section):
    visibility: Visibility = Visibility.PRIVATE


class DeviceEntry(Section):
    udid: str
    name: str = ""
    visibility: Visibility | None = None  # None: as [discovery] says
    tags: tuple[str, ...] = ()


class Webhook(Section):
    id: int | None = None
    org_id: int | None = None
    name: str
    url: str
    description: str = ""
    events: tuple[DeviceState, ...]
    enabled: bool = True
    payload: Literal["standard", "extended", "cloudevents"] = "standard"
    # secret, auth, headers, tls; scope:
    devices: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()


class Config(Section):
    agent: Agent = Agent()
    hold: Hold = Hold()
    usb: Usb = Usb()
    android: Android = Android()
    ios: Ios = Ios()
    flap: Flap = Flap()
    usage: UsageSection = UsageSection()
    api: Api = Api()
    delivery: Delivery = Delivery()
    discovery: Discovery = Discovery()
    devices: tuple[DeviceEntry, ...] = Field(default=())
    webhooks: tuple[Webhook, ...] = Field(default=())
