"""USB: can it be watched, and does it carry what hangs at it?"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.doctor.facts import AgentFacts, Facts, UsbDevice, UsbFacts

_USB = Section("USB")
PHONES_PER_CONTROLLER = 32
"""Past so many an xHCI controller may refuse further ones. A farm with 120 phones on one host had
about 30 recognised (openstf issue 966). The specification allows 255 device slots and 31 endpoints
each (xHCI 1.2, 5.3.3 and 6.2.1), controllers have fewer: Linux knows of 64 endpoints in all on
Intel's Panther Point (drivers/usb/host/xhci-pci.c, XHCI_EP_LIMIT_QUIRK)."""
DEVICES_PER_BUS = 127
"""USB 2.0, 4.1.1: addresses are 7 bits, and 0 is nobody's."""
HUBS_IN_A_ROW = 5
"""USB 2.0, 4.1.1: seven tiers, of which the root hub and the phone are two."""
HIGH_SPEED = 480.0
"""Mb/s of USB 2; a phone that runs below it (12) has a bad cable, port or hub."""


def judge_usb(facts: Facts) -> Iterator[Finding]:
    """udevd, then the tree."""
    usb = facts.usb
    yield _udev(usb, facts.agent)
    if usb.devices is None:
        yield _USB.fail(
            "topology",
            usb.error
            or "reading /sys has not ended in time: a device or a hub hangs in the kernel",
            "please report it" if usb.error else "see dmesg for which; unplug or power-cycle it",
        )
        return
    yield from _blocked(usb.devices)
    phones = [device for device in usb.devices if device.is_phone]
    if not phones:
        yield _USB.ok("topology", f"{len(usb.devices)} USB devices, no phone among them")
        return
    yield from _controllers(phones)
    yield from _buses(usb.devices)
    yield from _chains(phones)
    yield from _slow(phones)
    yield from _emergencies(phones)


def _udev(usb: UsbFacts, agent: AgentFacts) -> Finding:
    if not usb.enabled:
        return _USB.ok("udevd", "not watched ([usb] enabled = false)")
    said = agent.problem_of("udev")
    if not usb.udevd:
        return _USB.warn(
            "udevd",
            "not running (no /run/udev/control): only phones that adb or usbmuxd lists are seen",
            "sudo systemctl start systemd-udevd; in a container run the agent on the host, or give "
            "the container the host's network namespace and /run/udev",
        )
    if usb.netlink:
        return _USB.warn(
            "udevd",
            f"runs, but cannot be heard: no netlink socket ({usb.netlink})",
            "where a sandbox is around, let it have AF_NETLINK",
        )
    if said:
        return _USB.fail("udevd", f"the agent says: {said}", "restart it once that is remedied")
    return _USB.ok("udevd", "runs and can be heard")


def _controllers(phones: Iterable[UsbDevice]) -> Iterator[Finding]:
    by_controller: dict[str, list[UsbDevice]] = defaultdict(list)
    for phone in phones:
        by_controller[phone.controller].append(phone)
    for controller, members in sorted(by_controller.items()):
        speeds = Counter(f"{phone.speed:g} Mb/s" if phone.speed else "?" for phone in members)
        told = ", ".join(f"{count} at {speed}" for speed, count in speeds.most_common())
        roots = Counter(phone.port.split(".")[0] for phone in members if phone.hubs)
        hub, most = roots.most_common(1)[0] if roots else ("", 0)
        used = sum(phone.endpoints for phone in members)
        endpoints = f", {used} endpoints" if used else ""
        shared = f"; {most} share the cable to hub {hub}" if most > 1 else ""
        found = f"{controller or '?'}: {_phones(len(members))}, {told}{endpoints}{shared}"
        if len(members) > PHONES_PER_CONTROLLER:
            yield _USB.warn(
                "controller",
                f"{found}: past {PHONES_PER_CONTROLLER} a controller may not take further ones",
                "move some to ports of another controller, or add a PCIe card "
                "with one controller per port",
            )
        else:
            yield _USB.ok("controller", found)


def _buses(devices: Iterable[UsbDevice]) -> Iterator[Finding]:
    for bus, count in sorted(Counter(device.bus for device in devices).items()):
        if count > DEVICES_PER_BUS * 9 // 10:
            yield _USB.warn(
                "bus",
                f"{bus}: {count} devices of the {DEVICES_PER_BUS} that a bus can address",
                "move hubs to another root port or controller",
            )


def _chains(phones: Iterable[UsbDevice]) -> Iterator[Finding]:
    deep = [phone.port for phone in phones if phone.hubs >= HUBS_IN_A_ROW]
    if deep:
        yield _USB.warn(
            "hubs in a row",
            f"{_phones(len(deep))} behind {HUBS_IN_A_ROW} hubs, the most that USB allows: "
            f"{some(deep)}",
            "plug hubs into the host, not into each other; a hub with 10 ports is often three",
        )


def _blocked(devices: Iterable[UsbDevice]) -> Iterator[Finding]:
    blocked = [each.port for each in devices if each.blocked]
    if blocked:
        yield _USB.warn(
            "authorization",
            f"blocked on this host by USB authorization: {some(blocked)}",
            "allow the phones among them in USBGuard (usbguard list-devices, usbguard allow-device)"
            ", or echo 1 >/sys/bus/usb/devices/PORT/authorized",
        )


def _emergencies(phones: Iterable[UsbDevice]) -> Iterator[Finding]:
    for phone in phones:
        if phone.mode:
            mode, _, remedy = phone.mode.partition(": ")
            yield _USB.warn("emergency mode", f"the phone at {phone.port} is {mode}", remedy)


def _slow(phones: Iterable[UsbDevice]) -> Iterator[Finding]:
    slow = [f"{each.port} ({each.speed:g})" for each in phones if 0 < each.speed < HIGH_SPEED]
    if slow:
        yield _USB.warn(
            "link speed",
            f"{_phones(len(slow))} below {HIGH_SPEED:g} Mb/s: {some(slow)}",
            "change the cable, then the port, then the hub",
        )


def _phones(count: int) -> str:
    return f"{count} phone" if count == 1 else f"{count} phones"


def some(names: list[str], most: int = 8) -> str:
    """The first of them; the rest is counted."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def topology(devices: Iterable[UsbDevice]) -> str:
    """All of it as a tree, a device per line: as `lsusb -t`, with what the agent makes of it."""
    by_controller: dict[str, list[UsbDevice]] = defaultdict(list)
    for device in devices:
        by_controller[device.controller].append(device)
    lines = []
    for controller, members in sorted(by_controller.items()):
        lines.append(f"controller {controller or '?'}")
        for device in members:
            depth = 0 if device.port.startswith("usb") else 1 + device.hubs
            lines.append(
                f"{'  ' * (1 + depth)}{device.port}  {device.kind or 'hub'}  {device.speed:g} Mb/s"
                f"  {device.endpoints} endpoints  {device.product}  {device.serial}".rstrip()
            )
    return "\n".join(lines) + "\n"
