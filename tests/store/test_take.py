"""What a hub takes: the fleet's rows, devices, transitions and callbacks in one transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.errors import StoreError
from agent.store import FleetRow, Record
from agent.store.files import STATE_NAME, connect
from agent.store.migrate import migrate, scripts
from tests.kit.store import open_store
from tests.store.samples import callback, device, rows, transition

if TYPE_CHECKING:
    from pathlib import Path


def at_host(udid: str, *message_ids: str) -> Record:
    return Record(
        replace(device(udid), host="rack-3"),
        replace(transition(udid), host="rack-3"),
        tuple(callback(each, udid=udid) for each in message_ids),
    )


async def test_all_of_it_is_stored_and_read_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    before = await store.backlog.sizes()
    stored = await store.take(
        [FleetRow("rack-3", "", '{"a": 1}'), FleetRow("rack-3", "p", "{}"), FleetRow("", "", "x")],
        [at_host("p", "m1", "m2"), at_host("q", "m3")],
    )
    assert [(each.message_id, each.rowid) for each in stored] == [("m1", 1), ("m2", 2), ("m3", 3)]
    assert (before, await store.backlog.sizes()) == ({}, {1: 3})
    await store.close()
    store = open_store(tmp_path)
    assert await store.fleet.all() == [
        FleetRow("", "", "x"),
        FleetRow("rack-3", "", '{"a": 1}'),
        FleetRow("rack-3", "p", "{}"),
    ]
    assert [each.host for each in await store.devices.all()] == ["rack-3", "rack-3"]
    assert [each.transition.host for each in await store.transitions.after(0, 9)] == ["rack-3"] * 2
    await store.close()


async def test_rows_are_replaced_and_removed_the_last_word_counts(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.take(
        [FleetRow("a", "p", "1"), FleetRow("a", "q", "1"), FleetRow("a", "p", "2")], []
    )
    await store.take([FleetRow("a", "q", ""), FleetRow("a", "r", "3"), FleetRow("a", "r", "")], [])
    assert await store.fleet.all() == [FleetRow("a", "p", "2")]
    await store.close()


async def test_a_callback_that_is_made_again_is_there_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.take([], [at_host("p", "m1")])
    again = [at_host("p", "m1", "m2"), at_host("p", "m2", *(f"n{n}" for n in range(1200)))]
    stored = await store.take([], again)
    assert [each.message_id for each in stored] == ["m2", *(f"n{n}" for n in range(1200))]
    assert [each.rowid for each in stored] == list(range(2, 1203))
    assert len(await rows(store)) == 1202
    assert await store.backlog.sizes() == {1: 1202}
    await store.close()


async def test_all_or_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    bad = replace(at_host("q", "m2"), device=replace(device("q"), name="\ud800"))
    with pytest.raises(StoreError, match="refused"):
        await store.take([FleetRow("a", "", "1")], [at_host("p", "m1"), bad])
    assert (await store.fleet.all(), await store.devices.all(), await rows(store)) == ([], [], {})
    await store.close()


async def test_an_older_store_keeps_all_and_its_tables_their_rules(tmp_path: Path) -> None:
    path = tmp_path / STATE_NAME
    path.touch()
    conn = connect(path, fresh=True)
    number = next(n for n, text in enumerate(scripts()) if "CREATE TABLE fleet" in text)
    migrate(conn, path, scripts()[:number])
    conn.execute(
        "INSERT INTO devices (udid, platform, state, since_ms, name, model, port, reason, holder)"
        " VALUES ('a', 'ios', 'online', 5, 'n', '', '', '', '')"
    )
    conn.execute(
        "INSERT INTO transitions VALUES (7, 'a', NULL, 'online', 'so: a ( b , c )', 5, '')"
    )
    plain = (
        "SELECT type, name, tbl_name, rootpage FROM sqlite_schema"
        " WHERE name NOT IN ('fleet', 'watching', 'days') AND name NOT LIKE '%_fleet_%'"
    )
    before = conn.execute(plain).fetchall()
    migrate(conn, path, scripts())
    assert conn.execute(plain).fetchall() == before
    assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert conn.execute("PRAGMA writable_schema").fetchall() == [(0,)]
    for against in (
        "UPDATE devices SET state = 'lost'",
        "UPDATE transitions SET previous = 'online'",
        "INSERT INTO webhooks VALUES (1, 1, '', 0, 1, 0)",
        "INSERT INTO attempts VALUES (99, 1, 1, 1, NULL, '', '')",
        "INSERT INTO transitions VALUES (8, 'nobody', NULL, 'online', '', 5, '', '', '')",
        (
            "INSERT INTO callbacks (message_id, webhook_id, udid, created_ms, body, headers, state,"
            " attempts, due_ms) VALUES ('m', 1, 'a', 1, x'7b7d', '[]', 'delivered', 0, 0)"
        ),
    ):
        with pytest.raises(sqlite3.IntegrityError):
            conn.execute(against)
    conn.close()
    store = open_store(tmp_path)
    (known,) = await store.transitions.after(0, 9)
    assert (known.id, known.transition.reason, known.transition.host) == (7, "so: a ( b , c )", "")
    await store.close()


async def test_a_store_that_is_made_anew_has_no_fleet_and_the_devices_hosts(tmp_path: Path) -> None:
    """So that the hub asks all hosts for all that they have: what else was lost is mended so."""
    store = open_store(tmp_path)
    await store.take([FleetRow("rack-3", "", "1")], [at_host("p", "m1")])
    await store.close()
    path = tmp_path / STATE_NAME
    data = bytearray(path.read_bytes())
    data[100:4096] = bytes(3996)  # the whole schema
    path.write_bytes(data)
    store = open_store(tmp_path)
    assert store.health.recovered_from
    assert await store.fleet.all() == []
    assert [each.host for each in await store.devices.all()] == ["rack-3"]
    assert set(await rows(store)) == {"m1"}
    await store.close()
