"""A loop on `adbutils`' tracker with `requests`: each event is posted as it comes.

usage: python track.py ADB_PORT URL
"""

import sys
import time

import requests
from adbutils import AdbClient, AdbError  # type: ignore[import-untyped] # it has no types

adb = AdbClient(host="127.0.0.1", port=int(sys.argv[1]))
url = sys.argv[2]

while True:
    try:
        for event in adb.track_devices():
            state = event.status if event.present else "unplugged"
            try:
                answer = requests.post(
                    url, json={"serial": event.serial, "state": state}, timeout=10
                )
                answer.raise_for_status()
            except requests.RequestException as error:
                print(f"{event.serial} {state}: {error}", file=sys.stderr)
    except (AdbError, OSError) as error:
        print(f"adb: {error}", file=sys.stderr)
    time.sleep(1)
