from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from agent.clock import timestamp
from agent.config.body import PLACEHOLDERS
from agent.config.model import PayloadFormat
from agent.deliver.payload import (
    EVENT_ACTIVITY,
    EVENT_DESCRIPTION,
    FORMATS,
    new_message_id,
    render,
)
from agent.model import DeviceState, Platform
from tests.kit.deliver import make_device, make_transition, make_webhook

if TYPE_CHECKING:
    from agent.config import Webhook
    from agent.model import Device, Transition

CREATED_MS = 1672980756963
NINE = [
    "creationTime",
    "eventType",
    "eventActivity",
    "eventDescription",
    "deviceUdid",
    "deviceName",
    "orgId",
    "webhookId",
    "webhookName",
]


def rendered(
    transition: Transition | None = None,
    device: Device | None = None,
    webhook: Webhook | None = None,
    host: str = "rack7",
) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    return render(
        transition or make_transition(),
        device or make_device(),
        webhook or make_webhook(),
        org_id=2,
        message_id="msg_1",
        created_ms=CREATED_MS,
        host=host,
    )


def test_every_payload_that_may_be_configured_has_its_row() -> None:
    assert set(get_args(PayloadFormat)) == set(FORMATS)


def test_the_product_documents_example_byte_for_byte() -> None:
    body, headers = rendered(
        make_transition(DeviceState.UTILIZING),
        webhook=make_webhook(number=129, name="Webhook for All events"),
    )
    assert body == (
        b'{"creationTime":"2023-01-06T04:52:36.963Z","eventType":"DEVICE",'
        b'"eventActivity":"device.state.utilizing","eventDescription":"Utilizing",'
        b'"deviceUdid":"ce0917198075440c057e","deviceName":"Galaxy Note 8","orgId":2,'
        b'"webhookId":129,"webhookName":"Webhook for All events"}'
    )
    assert headers == (("Content-Type", "application/json"),)


@pytest.mark.parametrize(
    ("state", "activity", "description"),
    [
        ("online", "device.status.online", "Online"),
        ("offline", "device.status.offline", "Offline"),
        ("utilizing", "device.state.utilizing", "Utilizing"),
        ("unplugged", "device.state.unplugged", "Unplugged"),
    ],
)
def test_every_state_has_its_event(state: str, activity: str, description: str) -> None:
    body = json.loads(rendered(make_transition(DeviceState(state)))[0])
    assert list(body) == NINE
    assert body["eventType"] == "DEVICE"
    assert (body["eventActivity"], body["eventDescription"]) == (activity, description)


def test_the_tables_know_every_state() -> None:
    assert set(EVENT_ACTIVITY) == set(EVENT_DESCRIPTION) == set(DeviceState)


def test_names_in_any_script_and_broken_ones() -> None:
    body, _ = rendered(device=make_device(name='Müllers "安卓" \U0001f4f1'))
    assert json.loads(body)["deviceName"] == 'Müllers "安卓" \U0001f4f1'
    assert "安卓".encode() in body
    body, _ = rendered(device=make_device(name="half \udcff surrogate"))
    assert json.loads(body)["deviceName"] == "half ? surrogate"


def test_extended_adds_its_keys_behind_the_nine() -> None:
    body, headers = rendered(
        make_transition(
            DeviceState.OFFLINE,
            previous=DeviceState.ONLINE,
            reason="unauthorized",
            holder="bob",
            code="unauthorized",
            cause="c-17",
        ),
        make_device(port="1-4.2", tags=("rack-1", "samsung"), model="SM-N950F"),
        make_webhook(payload="extended"),
    )
    table = json.loads(body)
    assert list(table)[:9] == NINE
    assert {key: table[key] for key in list(table)[9:]} == {
        "previousState": "online",
        "reason": "unauthorized",
        "holder": "bob",
        "platform": "android",
        "deviceModel": "SM-N950F",
        "host": "rack7",
        "portPath": "1-4.2",
        "tags": ["rack-1", "samsung"],
        "reasonCode": "unauthorized",
        "causeId": "c-17",
    }
    assert headers == (("Content-Type", "application/json"),)


def test_extended_of_a_device_never_seen_before() -> None:
    body, _ = rendered(webhook=make_webhook(payload="extended"))
    table = json.loads(body)
    assert table["previousState"] is None
    assert (table["reasonCode"], table["causeId"]) == ("", "")


def test_the_cloudevents_library_reads_what_is_sent() -> None:
    body, headers = rendered(
        make_transition(DeviceState.UTILIZING),
        webhook=make_webhook(payload="cloudevents"),
        host="räck 7%",
    )
    event = from_binary(HTTPMessage(dict(headers), body), JSONFormat())
    assert event.get_attributes() == {
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "id": "msg_1",
        "source": "urn:device-agent:räck 7%",
        "type": "device.state.utilizing",
        "time": datetime(2023, 1, 6, 4, 52, 36, 963000, UTC),
        "subject": make_device().udid,
    }
    data = event.get_data()
    assert isinstance(data, dict)
    assert list(data) == NINE


def test_cloudevents_in_binary_mode() -> None:
    body, headers = rendered(
        device=make_device("00008030-001A 2B\u00e9", platform=Platform.IOS),
        webhook=make_webhook(payload="cloudevents"),
        host="räck 7",
    )
    assert list(json.loads(body)) == NINE
    assert dict(headers) == {
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "msg_1",
        "ce-source": "urn:device-agent:r%C3%A4ck%207",
        "ce-type": "device.status.online",
        "ce-time": "2023-01-06T04:52:36.963Z",
        "ce-subject": "00008030-001A%202B%C3%A9",
    }
    assert all(value.isascii() and value.isprintable() for _, value in headers)


def test_cloudevents_has_code_and_cause_where_there_are_any() -> None:
    body, headers = rendered(
        make_transition(DeviceState.OFFLINE, code="hub_lost", cause="1-4.2 ü"),
        webhook=make_webhook(payload="cloudevents"),
    )
    event = from_binary(HTTPMessage(dict(headers), body), JSONFormat())
    assert event.get_extension("reasoncode") == "hub_lost"
    assert event.get_extension("causeid") == "1-4.2 ü"
    assert list(json.loads(body)) == NINE


def test_what_can_be_a_placeholder_is_what_extended_has() -> None:
    body, _ = rendered(webhook=make_webhook(payload="extended"))
    assert tuple(json.loads(body)) == PLACEHOLDERS


def test_custom_sends_its_body_alone() -> None:
    webhook = make_webhook(
        payload="custom",
        number=129,
        body={
            "who": "{deviceName} ({webhookId}) of {orgId} {eventDescription}{previousState} {tags}",
            "tags": "{tags}",
            "org": "{orgId}",
            "was": "{previousState}",
            "x": ["{{deviceName}}", "{{{deviceName}}}", 1, 2.5, True, "é"],
            "cut": ["{deviceName:7}", "{orgId:5}", "a {tags:4}!"],
        },
    )
    body, headers = rendered(
        device=make_device(name='N "\\8\n', tags=("a", "b c")), webhook=webhook
    )
    assert body.decode() == (
        '{"who":"N \\"\\\\8\\n (129) of 2 Online a, b c","tags":["a","b c"],"org":2,"was":null,'
        '"x":["{deviceName}","{N \\"\\\\8\\n}",1,2.5,true,"é"],'
        '"cut":["N \\"\\\\8?","2","a a, …!"]}'
    )
    assert headers == (("Content-Type", "application/json"),)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (1709210096007, "2024-02-29T12:34:56.007Z"),
    ],
)
def test_times_are_utc_with_milliseconds(ms: int, text: str) -> None:
    assert timestamp(ms) == text


def test_message_ids_are_unique_and_free_of_dots() -> None:
    made = {new_message_id() for _ in range(10_000)}
    assert len(made) == 10_000
    assert not any("." in each or not each.startswith("msg_") for each in made)
