"""May this host use an iPhone? What its lockdownd says, judged; bounded in time and in number."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.model import Battery
from agent.reasons import Reason, ReasonCode
from agent.sources.lockdown_words import NOT_PAIRED, is_standing, reason_of
from agent.udid import spellings
from agent.wire import lockdown
from agent.wire.late import overslept
from agent.wire.usbmux import PhoneGoneError, PortClosedError, brief

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from agent.config import Ios
    from agent.wire.lockdown import Refusal
    from agent.wire.usbmux import Attached, UsbmuxClient

CHECKS = 8
"""Phones checked at once."""
TURN = 0.5
"""Seconds for which a check counts among those `CHECKS`. One that takes longer waits for its phone,
which costs this host nothing: silent phones must not keep the others from their turn."""


class Verdict(NamedTuple):
    """What one check of one phone found."""

    ready: bool = False
    reason: Reason = Reason()
    unresponsive: bool = False
    """The phone did not answer (properly), as opposed to: it answered that it is not usable."""
    name: str = ""
    model: str = ""
    battery: Battery | None = None


def unresponsive(why: str) -> Verdict:
    """It does not answer as a phone should."""
    return Verdict(
        reason=Reason(f"unresponsive: {why}", ReasonCode.UNRESPONSIVE), unresponsive=True
    )


class LockdownCheck:
    """Asks phones' lockdownd whether they trust this host. Lasts as long as the source."""

    def __init__(self, mux: UsbmuxClient, records: Path, settings: Ios) -> None:
        self._mux = mux
        self._records = records
        self._timeout = settings.probe_timeout
        # Said once, when the phone came, and never again, it would soon be a lie.
        self._battery = settings.battery and settings.probe_interval > 0
        self._turns = asyncio.Semaphore(CHECKS)
        self._loading = asyncio.Lock()
        self._loaded = False

    async def check(self, phone: Attached) -> Verdict:
        """Never raises but CancelledError; ends within the time limit, once it is its turn.

        Of a phone that is ready it takes `lockdown.BATTERY_LIMIT` longer, at most.
        """
        try:
            async with self._loading:
                if not self._loaded:
                    await asyncio.to_thread(lockdown.load)
                    self._loaded = True
            async with self._turn():
                while True:
                    until = asyncio.get_running_loop().time() + self._timeout
                    try:
                        return await self._ask(phone)
                    except TimeoutError:
                        if not overslept(until):
                            raise
        except TimeoutError:
            return unresponsive(
                f"its lockdownd did not answer within {self._timeout:g} s; "
                "unlock the phone, plug it in anew or restart it"
            )
        except ImportError as error:
            missing = f"iOS support cannot be loaded: {error}"
            return Verdict(reason=Reason(missing, ReasonCode.IOS_SUPPORT_MISSING))
        except Exception as error:  # noqa: BLE001 - the library lets anything out
            return _explain_failure(error)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        await self._turns.acquire()
        over = False

        def end() -> None:
            nonlocal over
            if not over:
                over = True
                self._turns.release()

        timer = asyncio.get_running_loop().call_later(TURN, end)
        try:
            yield
        finally:
            timer.cancel()
            end()

    async def _ask(self, phone: Attached) -> Verdict:
        try:
            said = await lockdown.ask(
                self._mux,
                phone,
                spellings(phone.serial),
                self._records,
                self._timeout,
                battery=self._battery,
            )
        except lockdown.RefusedError as error:
            return _refused(error.refusal)
        if said.kind != lockdown.NORMAL:
            return unresponsive(f"it is not in normal mode but runs {said.kind}; restart it")
        verdict = Verdict(ready=True)
        if not said.trusts:
            verdict = _refused(said.refusal) if said.refusal else Verdict(reason=NOT_PAIRED)
        battery = None if said.battery is None else battery_of(said.battery)
        return verdict._replace(name=said.name, model=said.model, battery=battery)


def battery_of(said: Mapping[str, Any]) -> Battery | None:
    """What lockdownd says of the battery; None: nothing that makes sense."""
    level, charging = said.get("BatteryCurrentCapacity"), said.get("BatteryIsCharging")
    if said.get("HasBattery") is False:
        return None
    battery = Battery(
        level if type(level) is int and 0 <= level <= 100 else None,  # noqa: PLR2004 - percent
        charging=charging if isinstance(charging, bool) else None,
    )
    return None if battery == Battery() else battery


def _refused(refusal: Refusal) -> Verdict:
    return Verdict(reason=reason_of(refusal), unresponsive=not is_standing(refusal))


def _explain_failure(error: Exception) -> Verdict:
    """Why a check came to nothing."""
    match error:
        case PhoneGoneError():
            return unresponsive("usbmuxd no longer has it; plug it in anew")
        case PortClosedError():
            return unresponsive("its lockdownd refuses connections; restart the phone")
        case lockdown.ClosedError():
            return unresponsive("its lockdownd closed the connection; restart the phone")
        case ssl.SSLError():
            return Verdict(
                reason=Reason(
                    "not trusted: the phone and this host's pairing record do not fit "
                    f"({brief(error)}); unlock it, plug it in anew and tap Trust",
                    ReasonCode.NOT_TRUSTED,
                ),
                unresponsive=True,  # or a connection that was torn
            )
    return unresponsive(f"the check failed: {brief(error)}")
