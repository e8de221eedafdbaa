"""Dumps of udev's database that people published, tried on. To try on the next: ten lines as these.

Runs only inside a namespace of its own; test_udev_dumps.py brings it there.
"""

from __future__ import annotations

from agent.model import Platform, UsbKind
from tests.fakes.udev_dump import said_of

# A tablet's `udevadm info --export-db` in a note on ModemManager; a stick's `udevadm info` in one
# on modems; and a pen drive. All three have the serial that their makers left as they found it.
SAME_SERIAL = r"""
P: /devices/pci0000:00/0000:00:14.0/usb3/3-1
N: bus/usb/003/052
E: DEVPATH=/devices/pci0000:00/0000:00:14.0/usb3/3-1
E: SUBSYSTEM=usb
E: DEVTYPE=usb_device
E: PRODUCT=e8d/2008/ffff
E: TYPE=0/0/0
E: ID_MM_DEVICE_IGNORE=1  ######### WORKS
E: ID_VENDOR_ID=0e8d
E: ID_MODEL=MT65xx_Android_Phone
E: ID_MODEL_ID=2008
E: ID_SERIAL_SHORT=0123456789ABCDEF
E: ID_USB_INTERFACES=:ffff00:
E: ID_GPHOTO2=1
E: GPHOTO2_DRIVER=proprietary
E: ID_MEDIA_PLAYER=1
E: ID_MTP_DEVICE=1

P: /devices/pci0000:00/0000:00:14.0/usb3/3-1/3-1:1.0
E: DEVTYPE=usb_interface
E: INTERFACE=255/255/0

P: /devices/pci0000:00/0000:00:1d.0/usb1/1-1/1-1.3
E: ID_MODEL=HUAWEI_MOBILE
E: ID_MODEL_ID=15b6
E: ID_SERIAL_SHORT=0123456789ABCDEF
E: ID_VENDOR_ID=12d1
E: ID_USB_INTERFACES=:ff0212:ff0201:080650:

P: /devices/pci0000:00/0000:00:14.0/usb3/3-2
E: DEVTYPE=usb_device
E: ID_VENDOR_ID=13fe
E: ID_MODEL_ID=4200
E: ID_MODEL=USB_DISK_2.0
E: ID_SERIAL_SHORT=0123456789ABCDEF
E: ID_USB_INTERFACES=:080650:
"""

# umockdev's record of a camera, from the tests of a desktop portal.
CAMERA = r"""
P: /devices/pci0000:00/0000:00:1a.0/usb1/1-1/1-1.5/1-1.5.2/1-1.5.2.3
E: DEVTYPE=usb_device
E: GPHOTO2_DRIVER=PTP
E: ID_GPHOTO2=1
E: ID_MODEL=Canon_Digital_Camera
E: ID_MODEL_ID=31c0
E: ID_SERIAL_SHORT=C767F1C714174C309255F70E4A7B2EE2
E: ID_USB_INTERFACES=:060101:
E: ID_VENDOR_ID=04a9
E: PRODUCT=4a9/31c0/2
E: SUBSYSTEM=usb
A: authorized=1
A: busnum=1\n
"""

# `udevadm monitor -p`, in a question on rules that play a sound.
GALAXY_NEXUS = r"""
UDEV  [1396910673.052949] add      /devices/pci0000:00/0000:00:1d.0/usb2/2-1/2-1.1 (usb)
ACTION=add
DEVPATH=/devices/pci0000:00/0000:00:1d.0/usb2/2-1/2-1.1
SUBSYSTEM=usb
DEVTYPE=usb_device
PRODUCT=4e8/6860/216
TYPE=0/0/0
SEQNUM=4510
ID_MODEL=Galaxy_Nexus
ID_SERIAL_SHORT=0149BD301701000C
ID_USB_INTERFACES=:ffff00:ff4201:
ID_MTP_DEVICE=1
"""


async def test_a_phone_a_modem_and_a_disk_of_one_serial() -> None:
    said = await said_of(SAME_SERIAL)
    assert list(said) == ["3-1"]
    assert (said["3-1"].usb, said["3-1"].platform) == (UsbKind.MTP, Platform.ANDROID)
    assert said["3-1"].model == "MT65xx Android Phone"


async def test_a_camera() -> None:
    assert await said_of(CAMERA) == {}


async def test_a_phone_with_debugging_on() -> None:
    (phone,) = (await said_of(GALAXY_NEXUS)).values()
    assert (phone.port, phone.serial, phone.usb) == ("2-1.1", "0149BD301701000C", UsbKind.ADB)


async def test_the_same_phone_blocked() -> None:
    (phone,) = (await said_of(f"{GALAXY_NEXUS}A: authorized=0\n")).values()
    assert phone.usb is UsbKind.ADB
    assert "USB authorization" in phone.reason
