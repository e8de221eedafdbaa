"""A new key that holds a secret is one everywhere by its type: there is no list to forget it in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import pytest
from pydantic import BeforeValidator

from agent.config import Config, Webhook
from agent.config.document import Document
from agent.config.documents import Documents
from agent.config.fields import SecretValue, Url, to_tuple
from agent.config.model import Section
from agent.config.secret import Kind, PrivateUrl, Secret
from agent.config.shape import all_sections, is_open
from agent.config.values import check_no_repeats
from agent.config.warn import warnings
from agent.deliver.client import Client
from agent.doctor.redact import private_texts, shown, without
from tests.fakes.receiver import Receiver, Request, answer
from tests.kit.deliver import NOW_MS, make_callback
from tests.redaction.vault import Vault

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path


class Pager(Section):
    """A table that no release has."""

    room: str = ""
    code: SecretValue
    mirrors: Annotated[tuple[Url, ...], BeforeValidator(to_tuple)] = ()


class PagedWebhook(Webhook):
    """A webhook with new keys."""

    pager: Pager | None = None
    pins: Annotated[tuple[SecretValue, ...], BeforeValidator(to_tuple)] = ()
    fallback: Url | None = None


class NewConfig(Config):
    """A file with new keys."""

    master: SecretValue | None = None
    webhooks: Annotated[tuple[PagedWebhook, ...], BeforeValidator(to_tuple)] = ()


TEXT = """\
master = "{master}"
[usage.plugins.booking]
password = "{option}"
rooms = [ "{listed}" ]
[[webhooks]]
name = "Board"
url = "{url}"
events = ["online"]
pins = [ "{pin}", {{ file = "{file}" }} ]
fallback = "http://u:{userinfo}@127.0.0.1:9/x?q={query}"
pager = {{ room = "1", code = "{code}", mirrors = [ "https://m.example/?{mirror}" ] }}
"""
INLINE = ("master", "option", "listed", "pin", "userinfo", "query", "code", "mirror")


@pytest.fixture
def vault() -> Vault:
    return Vault()


def written(vault: Vault, file: Path, url: str = "http://127.0.0.1:9/") -> Document:
    key = file.with_name("pin")
    key.write_text(vault.make("in file"))
    key.chmod(0o604)
    texts = {name: vault.make(name) for name in INLINE}
    file.write_text(TEXT.format(url=url, file=key, **texts))
    file.chmod(0o600)
    return Document.read(file)


def config_of(document: Document) -> NewConfig:
    return NewConfig.model_validate(document.data)


def test_it_is_found_with_its_place(vault: Vault, tmp_path: Path) -> None:
    document = written(vault, tmp_path / "agent.toml")
    found = dict(config_of(document).secrets())
    hook = ("webhooks", 0)
    assert found.keys() == {
        ("master",),
        ("usage", "plugins", "booking", "password"),
        ("usage", "plugins", "booking", "rooms", 0),
        (*hook, "url"),
        (*hook, "pins", 0),
        (*hook, "pins", 1),
        (*hook, "fallback"),
        (*hook, "pager", "code"),
        (*hook, "pager", "mirrors", 0),
    }
    assert found.keys() <= document.places.keys(), "each leads to its line"
    assert isinstance(found["master",], Secret)
    assert isinstance(found[*hook, "fallback"], PrivateUrl)
    assert len(dict(config_of(document).webhooks[0].secrets())) == 6


def test_nothing_that_is_written_of_it_tells_it(vault: Vault, tmp_path: Path) -> None:
    document = written(vault, tmp_path / "agent.toml")
    config = config_of(document)
    assert vault.found_in(document.text), "it could be found"
    for said in (repr(config), str(config), config.model_dump_json(), repr(config.model_dump())):
        assert not vault.found_in(said)
    assert shown(config)["webhooks"][0]["fallback"] == "http://127.0.0.1:9/x"


def test_the_doctors_bundle_is_free_of_it(vault: Vault, tmp_path: Path) -> None:
    document = written(vault, tmp_path / "agent.toml")
    config = config_of(document)
    private = private_texts(config, {})
    assert set(vault.values.values()) <= set(private)
    assert not vault.found_in(without(f"{document.text}\n{vault.values['in file']}", private))


def test_its_lines_are_covered_on_a_terminal() -> None:
    for names in (
        ("master",),
        ("webhooks", "pins"),
        ("webhooks", "fallback"),
        ("webhooks", "pager"),
        ("webhooks", "pager", "room"),  # beside one
        ("usage", "plugins"),
    ):
        assert not is_open(names, NewConfig), names
    for names in (("webhooks", "name"), ("agent", "org_id"), ("webhooks", "tls", "ca")):
        assert is_open(names, NewConfig), names


def test_who_else_can_read_it_is_warned_of(vault: Vault, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    document = written(vault, file)
    told = [str(each) for each in warnings(config_of(document), Documents(document))]
    (mine,) = [each for each in told if "pins" in each]
    assert "webhook 'Board' pins: others can read" in mine
    for text in ('master = "x"', '[usage.plugins.booking]\npassword = "x"'):
        file.write_text(text)
        file.chmod(0o644)
        documents = Documents(Document.read(file))
        (loose,) = warnings(config_of(documents.own), documents)
        assert "holds secrets and others can read it" in loose.message
    file.write_text('[usage.plugins.booking]\nrooms = ["x"]')
    assert warnings(config_of(Document.read(file)), Documents(Document.read(file))) == ()


async def test_an_endpoint_that_knows_it_cannot_say_it(
    receiver: Receiver, vault: Vault, tmp_path: Path
) -> None:
    document = written(vault, tmp_path / "agent.toml", receiver.url("/"))
    mine = {"in file", "pin", "userinfo", "query", "code", "mirror"}

    async def tell(request: Request, writer: asyncio.StreamWriter) -> None:
        body = " ".join(vault.values[name] for name in sorted(mine)).encode()
        await answer(400, (), body)(request, writer)

    receiver.default = tell
    client = Client()
    try:
        sent = await client.attempt(config_of(document).webhooks[0], make_callback(), NOW_MS)
    finally:
        await client.close()
    assert sent.excerpt.count("***") == len(mine)
    assert not vault.found_in(sent.excerpt)


# --- the keys that there are --------------------------------------------------------------------

SOUNDS_SECRET = re.compile("url|proxy|secret|token|pass|credential|key$|appium|grid|headers")
FILES = {("api", "key"), ("fleet", "tls", "key"), ("webhooks", "tls", "key")}
"""These say where a secret is."""


def test_no_key_whose_name_sounds_secret_is_plain_text() -> None:
    keys = {
        (*path, name) for path, each in all_sections(Config).items() for name in each.model_fields
    }
    plain = {key for key in keys if SOUNDS_SECRET.search(key[-1]) and is_open(key, Config)}
    assert plain == FILES, "make the others a SecretValue or a Url"


@pytest.mark.parametrize("text", ["http://h", "http://u:p@h:1/a;b/c?d=e#f", "https://u@[::1]:2?x"])
def test_the_bare_part_of_a_url(text: str) -> None:
    url = PrivateUrl(text)
    bare = re.sub("[?#].*", "", re.sub("//.*@", "//", text))
    assert (url.bare, repr(url), str(url)) == (bare, f"<URL: {bare}>", text)


def test_a_secret_says_where_it_is() -> None:
    assert repr(Secret(Kind.INLINE, "", "hunter2")) == "<Secret: inline secret>"


@pytest.mark.parametrize("twice", [PrivateUrl("http://u:hunter2@h/"), Secret.parse("hunter2")])
def test_a_mistake_does_not_quote_it(twice: object) -> None:
    with pytest.raises(ValueError, match="twice") as caught:
        check_no_repeats((twice, twice))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="'rack-1' stands twice"):
        check_no_repeats(("rack-1", "rack-1"))
