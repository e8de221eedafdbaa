"""The operator's file and the agent's own, read as one: each mistake at its place in its file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import Config, check, load, load_both
from agent.config.document import Document
from agent.config.documents import HEAD, Texts, managed_path
from agent.config.loader import joined
from agent.config.secret import Secret
from agent.errors import ConfigError
from tests.config.kit import files

OWN = """\
[agent]
org_id = 4
[[webhooks]]
id = 7
name = "board"
url = "http://b.example/"
events = ["online"]
"""
KEPT = """\
[[webhooks]]
name = "page"
url = "http://p.example/"
events = ["online"]
secret = { file = "page.secret" }
[[webhooks]]
name = "board"
org_id = 1
id = 9
url = "http://p.example/2"
events = ["offline"]
"""
TEXTS = Texts(OWN, Path("/etc/agent.toml"), KEPT, Path("/var/webhooks.toml"))


def config_of(texts: Texts) -> Config:
    return joined(texts)[1]


def mistakes(own: str = OWN, kept: str = KEPT) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        joined(replace(TEXTS, own=own, kept=kept))
    return str(refused.value).splitlines()


def test_they_are_one_configuration() -> None:
    config = config_of(TEXTS)
    assert [(config.org_of(each), each.name, each.id) for each in config.webhooks] == [
        (4, "board", 7),
        (4, "page", None),
        (1, "board", 9),
    ]
    places = [config.origin_of(each) for each in config.webhooks]
    assert [(str(each), each.managed) for each in places if each is not None] == [
        ("/etc/agent.toml:3", False),
        ("/var/webhooks.toml:1", True),
        ("/var/webhooks.toml:6", True),
    ]
    assert config.webhooks[1].secret == (Secret.parse({"file": "/etc/page.secret"}),)


def test_where_they_stand_is_no_part_of_what_they_say() -> None:
    assert config_of(TEXTS) == config_of(replace(TEXTS, kept=f"# a remark\n{KEPT}"))
    assert config_of(TEXTS) == config_of(replace(TEXTS, own=OWN + KEPT, kept=None))
    assert Config().origin_of(config_of(TEXTS).webhooks[0]) is None


@pytest.mark.parametrize("kept", [None, "", HEAD, "webhooks = []\n"])
def test_none_is_as_good_as_one_without_webhooks(kept: str | None) -> None:
    assert [each.name for each in config_of(replace(TEXTS, kept=kept)).webhooks] == ["board"]


def test_an_inline_array_is_joined_too() -> None:
    kept = 'webhooks = [\n  {name = "x", url = "http://x.example/", events = ["online"]},\n]\n'
    config = config_of(replace(TEXTS, own=OWN.split("[[", maxsplit=1)[0], kept=kept))
    assert str(config.origin_of(config.webhooks[0])) == "/var/webhooks.toml:2"


def test_names_and_ids_are_unique_over_both() -> None:
    kept = KEPT.replace("org_id = 1\n", "").replace("id = 9", "id = 7")
    assert mistakes(kept=kept) == [
        (
            "/var/webhooks.toml:7:1: webhook 'board' name: another webhook of organisation 4 "
            "(/etc/agent.toml:3) has this name: names are unique in one"
        ),
        (
            "/var/webhooks.toml:8:1: webhook 'board' id: webhook 'board' (/etc/agent.toml:3) has "
            "the id 7 already"
        ),
    ]
    assert mistakes(kept=KEPT + KEPT.replace('"board"', '"b"').replace("9", "10"))[0].endswith(
        "another webhook of organisation 4 has this name: names are unique in one"
    ), "in one file the reader finds it"


def test_every_mistake_of_both_is_told_at_its_place() -> None:
    own = OWN.replace("events", "evnets") + "[hodl]\n"
    kept = KEPT.replace('"http://p.example/2"', '"nowhere"') + '[agent]\norg_id = 2\n[x."a\\nb"]\n'
    found = mistakes(own, kept)
    assert [each.split(": ")[0] for each in found] == [
        "/etc/agent.toml:3:3",
        "/etc/agent.toml:7:1",
        "/etc/agent.toml:8:2",
        "/var/webhooks.toml:10:1",
        "/var/webhooks.toml:12:2",
        "/var/webhooks.toml:14:2",
    ]
    assert found[4].endswith(
        "'agent' does not belong here: this file holds [[webhooks]] alone, all else stands in "
        "/etc/agent.toml"
    )


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ("[webhooks]\nname = 1\n", "/var/webhooks.toml:1:2: write [[webhooks]], one for each"),
        ("webhooks = [1]\n", "/var/webhooks.toml:1:13: webhook 1: expected a table"),
        ("webhooks = 3\n", "/var/webhooks.toml:1:1: write [[webhooks]]"),
        ("[[webhooks]\n", "/var/webhooks.toml:1:11: not valid TOML"),
        ("\0", "/var/webhooks.toml:1:1: not valid TOML"),
    ],
)
def test_what_is_no_list_of_webhooks(kept: str, told: str) -> None:
    found = mistakes(kept=kept)
    assert found[0].startswith(told), found
    own = mistakes(OWN + "[hodl]\n", kept)
    assert own[0].startswith("/etc/agent.toml:8:2: "), "and what is wrong with the other"
    assert own[-1].startswith(told.split(" ", maxsplit=1)[0])


@pytest.mark.parametrize(
    "own", ["[webhooks]\nname = 1\n", "webhooks = 3\n", "[[", "webhooks = [1]"]
)
def test_an_operator_s_file_of_another_shape_is_told_of(own: str) -> None:
    found = mistakes(own)
    assert found[0].startswith("/etc/agent.toml:1:"), found


def test_where_the_agent_s_own_is(tmp_path: Path) -> None:
    def path(text: str) -> Path:
        return managed_path(
            Document(text, str(tmp_path / "agent.toml")), {"STATE_DIRECTORY": "/s:/t"}
        )

    assert path("") == Path("/s/webhooks.toml")
    assert path('agent.state_dir = "mine"') == tmp_path / "mine" / "webhooks.toml"
    assert path('[agent]\nstate_dir = "/x"\nlog_level = "nonsense"') == Path("/x/webhooks.toml")
    assert path("agent.state_dir = 3") == Path("/s/webhooks.toml"), "that is told as a mistake"


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """Both files on the disk."""
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    own, kept = tmp_path / "agent.toml", state / "webhooks.toml"
    own.write_text(f'[agent]\norg_id = 4\nstate_dir = "{state}"\n{OWN.partition("4")[2]}')
    kept.write_text(KEPT)
    return own, kept


def test_commands_read_both_and_load_one(both: tuple[Path, Path]) -> None:
    own, kept = both
    assert len(load(own).webhooks) == 1
    documents, config = load_both(own)
    assert (len(config.webhooks), documents.managed is not None) == (3, True)
    kept.write_text(KEPT + "[hodl]\n")
    found, problems, _ = check(own)
    assert found is None
    assert [(each.file, each.line) for each in problems] == [(str(kept), 12)]
    kept.unlink()
    assert len(load_both(own)[1].webhooks) == 1


_AS_NOBODY = """
import os, sys
from pathlib import Path
from agent.config import check, load_both
from agent.config.file import ConfigFile
from agent.errors import ConfigError
path = Path(sys.argv[1])
check(path)  # loads what is loaded late, while it may be read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(len(load_both(path)[1].webhooks), check(path)[1])
file = ConfigFile(path, {})
for _ in range(2):
    try:
        print(len(file.load()[0].webhooks))
    except ConfigError as error:
        print(error)
"""


@pytest.mark.parametrize("what", ["file", "directory"])
def test_who_may_not_read_it_is_no_worse_off_but_the_agent_is(place: Path, what: str) -> None:
    place.chmod(0o755)
    state = place / "state"
    state.mkdir()
    own, kept = place / "agent.toml", state / "webhooks.toml"
    own.write_text(f'[agent]\nstate_dir = "{state}"\n' + OWN.partition("4\n")[2])
    own.chmod(0o644)
    kept.write_text("nonsense")
    kept.write_text(KEPT)
    (kept if what == "file" else state).chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(own)], capture_output=True, text=True, check=False
    )
    state.chmod(0o700)
    assert done.stderr == ""
    seen, started, refused = done.stdout.splitlines()
    assert seen == "1 ()"
    assert started == (refused if what == "file" else "1"), "there its store has the word"
    assert refused == (
        f"{kept}:1:1: cannot be read (Permission denied): it belongs to the user the agent runs "
        "as, and so does its directory"
    )


def test_what_is_emptied_or_gone_is_known(both: tuple[Path, Path]) -> None:
    own, kept = both
    file = files(own)
    file.load()
    assert file.managed == kept
    assert file.emptied(file.look()) is None
    for text, words in (("", "empty now"), (" \n\n", "empty now"), (None, "gone")):
        kept.unlink() if text is None else kept.write_text(text)
        error = file.emptied(file.look())
        assert str(error).startswith(f"{kept}:1:1: the file is {words}, which is not taken"), text
    kept.write_text("# none any more\n")
    assert file.emptied(file.look()) is None, "somebody meant it"
    kept.unlink()
    file.load()
    assert file.emptied(file.look()) is None, "it was taken"
    text = own.read_text()
    own.write_text("\n")
    assert str(file.emptied(file.look())).startswith(f"{own}:1:1: the file is empty now")
    file.load()
    assert file.emptied(file.look()) is None
    own.write_text(text)
    kept.write_text(KEPT)
    assert file.emptied(file.look()) is None


def test_another_state_directory_counts_from_the_next_start(both: tuple[Path, Path]) -> None:
    own, kept = both
    file = files(own)
    file.load()
    own.write_text(own.read_text().replace("/state", "/elsewhere"))
    config, _ = file.load()
    assert (len(config.webhooks), file.managed) == (3, kept)
    assert len(files(own).load()[0].webhooks) == 1


def test_the_fingerprint_is_of_both(both: tuple[Path, Path]) -> None:
    own, kept = both
    file = files(own)
    file.load()
    seen = {file.loaded}
    for path in (own, kept):
        path.write_text(path.read_text() + "# a remark\n")
        seen.add(file.look().fingerprint)
    kept.unlink()
    seen.add(file.look().fingerprint)
    assert len(seen) == 4


@pytest.mark.parametrize("loose", [0, 1])
def test_which_of_them_others_can_read_is_told_where_it_holds_secrets(
    both: tuple[Path, Path], loose: int
) -> None:
    both[0].chmod(0o600)
    both[1].chmod(0o600)
    both[loose].chmod(0o644)
    assert not told(both[0], "can read")
    text = KEPT if loose else both[0].read_text()
    both[1 - loose].write_text(both[1 - loose].read_text() + 'headers = { X-Token = "t0ken" }\n')
    assert not told(both[0], "can read"), "they are in the other"
    both[loose].write_text(text + 'headers = { X-Token = "t0ken" }\n')
    (only,) = told(both[0], "can read")
    assert only == (
        f"{both[loose]}:1:{3 if loose else 1}: holds secrets and others can read it (mode "
        f"0644): chmod 0600 {both[loose]}, or move the secrets into files of their own"
    )
    both[loose].chmod(0o606)
    assert len(told(both[0], "others can change it")) == 1


def told(path: Path, words: str) -> list[str]:
    """The warnings of `check` with those words."""
    return [str(each) for each in check(path)[2] if words in each.message]
