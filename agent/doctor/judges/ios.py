"""iPhones: usbmuxd, what it lists, and whether it knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, Section
from agent.doctor.judges.usb import some
from agent.model import Platform, UsbKind
from agent.udid import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.facts import AgentFacts, Facts, UsbmuxFacts

_IOS = Section("iPhones")


def judge_usbmuxd(facts: Facts) -> Iterator[Finding]:
    """Everything of usbmuxd."""
    mux = facts.usbmux
    if not mux.enabled:
        yield _IOS.ok("usbmuxd", "not watched ([ios] enabled = false)")
        return
    # Another host's usbmuxd lists what is plugged in there.
    plugged = {
        canonical(each.serial, Platform.IOS): each.port
        for each in facts.usb.devices or ()
        if each.kind is UsbKind.APPLE and mux.local
    }
    if not mux.supported and (plugged or mux.listed):
        yield _IOS.fail(
            "support",
            "the agent was installed without its support of iPhones",
            "install it again without IOS=no (pip: device-agent[ios])",
        )
    yield _daemon(mux, plugged, facts.agent)
    if mux.error or not mux.there:
        return
    unseen = [f"{udid} at {port}" for udid, port in plugged.items() if udid not in mux.listed]
    if unseen:
        yield _IOS.fail(
            "listed",
            f"on USB, and not listed by usbmuxd: {some(unseen)}",
            "unlock it and replug; many that came at once: sudo systemctl restart usbmuxd",
        )
    yield from _records(mux)


def _daemon(mux: UsbmuxFacts, plugged: dict[str, str], agent: AgentFacts) -> Finding:
    if not mux.there or (mux.error and "nobody answers" in mux.error):
        if not plugged:
            return _IOS.ok("usbmuxd", "does not run, and no iPhone is here: udev starts it then")
        return _IOS.fail(
            "usbmuxd",
            f"does not run ({mux.address}), and {len(plugged)} iPhones are plugged in",
            "sudo apt-get install usbmuxd; sudo systemctl start usbmuxd",
        )
    if mux.error:
        remedy = "sudo systemctl restart usbmuxd"
        if not mux.local:
            remedy = "see that it runs there, and that this host reaches it"
        return _IOS.fail("usbmuxd", f"{mux.address}: {mux.error}", remedy)
    if said := agent.problem_of("usbmux"):
        return _IOS.fail("usbmuxd", f"answers, but the agent says: {said}", "see the agent's log")
    count = len(mux.listed)
    return _IOS.ok("usbmuxd", f"answers at {mux.address}, lists {count or 'no'} iPhones")


def _records(mux: UsbmuxFacts) -> Iterator[Finding]:
    unknown = [udid for udid, where in mux.records if not where]
    strange = [f"{udid} ({where})" for udid, where in mux.records if "/lockdown/" in where]
    if unknown:
        yield _IOS.warn(
            "pairing records",
            f"none for {some(unknown)}: not trusted yet",
            "unlock it, replug, tap Trust; or idevicepair pair",
        )
    if strange:
        yield _IOS.warn(
            "pairing records",
            f"a file that usbmuxd does not hand out: {some(strange)}",
            "it may not read it: sudo chown usbmux: /var/lib/lockdown/*.plist; else pair anew",
        )
    if mux.records and not unknown and not strange:
        yield _IOS.ok("pairing records", f"for all {len(mux.records)}")
