"""The proof itself: in a network namespace of its own, where test_proof.py brings it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.fleet.proof.field import Field
from tests.fleet.proof.schedule import schedule
from tests.fleet.proof.walk import Walk
from tests.kit.broker import BUNDLED, packaged
from tests.process.usb_inner import loopback

__all__ = ["loopback"]  # the fixture that this module's test needs, too

SEED = int(os.environ.get("PROOF_SEED", "1"))
CHANGES = int(os.environ.get("PROOF_CHANGES", "1000"))
RATE = float(os.environ.get("PROOF_RATE", "20"))
"""Changes a second."""
ROUNDS = int(os.environ.get("PROOF_ROUNDS", "1"))
SERVER = os.environ.get("PROOF_SERVER", "bundled")
"""Which nats-server: that of PyPI, or Debian's ("packaged")."""
KEEP = os.environ.get("PROOF_KEEP", "")
"""Where a run that found something leaves its stores, its logs and what the receiver was sent."""
SHOWN = 10
"""Of what is wrong, at most."""


async def test_nothing_is_lost_and_nothing_is_made_up() -> None:
    print("seed", SEED, SERVER)
    with tempfile.TemporaryDirectory(prefix="da-") as name:
        field = Field(Path(name), packaged() if SERVER == "packaged" else BUNDLED)
        async with field.running():
            walk = Walk(field, SEED, CHANGES, RATE)
            verdict = await walk.run(schedule(SEED, ROUNDS))
        if KEEP and verdict.wrong:
            field.keep(Path(KEEP))
    print(f"{verdict.messages} messages, {verdict.repeats} repeats, {verdict.lost} of lost hosts")
    shown, story = "\n".join(verdict.wrong[:SHOWN]), "\n".join(walk.said)
    assert not verdict.wrong, f"PROOF_SEED={SEED}: {len(verdict.wrong)} wrong:\n{shown}\n{story}"
    assert verdict.messages > CHANGES
    assert verdict.lost, "no host was lost: the proof has not tried it"
    assert walk.moves
