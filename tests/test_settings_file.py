"""configs/ops.yaml: it names and explains every key, says the defaults, and its examples can be used as they stand."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commandline import ROOT

from mmtools.ops import settings
from mmtools.ops.settings import Chat, MissionControl, OpenClaw, Ping, Policy, Rule, Secret, Service, Settings

FILE = ROOT / "configs" / "ops.yaml"
IN_SECTIONS = ("openclaw", "sessions", "snapshots", "memory", "restart")


def with_examples(text: str) -> str:
    """Use the examples: take the # of their lines away, and the lines whose place they take."""
    for block in re.findall(r"^#[a-z_]+:(?:\n#.*)*", text, re.MULTILINE):
        plain = re.sub(r"^#", "", block, flags=re.MULTILINE)
        name = plain.partition(":")[0]
        text, count = re.subn(rf"^{name}: .*\n", "", text.replace(block, plain), flags=re.MULTILINE)
        assert count == 1, name
    return text


def explained(text: str) -> dict[str, str]:
    """Return each key that stands in a line of its own, with its section, and the comment right above it."""
    found: dict[str, str] = {}
    section, comment = "", ""
    for line in text.splitlines():
        if prose := re.fullmatch(r" *# (.*)", line):
            comment += prose[1] + " "
        elif key := re.match(r"( {2})?([a-z_-]+):", line):
            section = section if key[1] else ""
            found[section + key[2]] = comment
            if line.endswith(":") and not key[1]:
                section = key[2] + "."
            comment = ""
        elif not line.strip():
            comment = ""
    return found


def test_the_file_says_the_defaults() -> None:
    assert settings.load(str(FILE)) == Settings()


def test_the_file_names_and_explains_every_key_and_its_default() -> None:
    found = explained(FILE.read_text())
    defaults: dict[str, Any] = {}
    for name in Settings.__struct_fields__:
        value = getattr(Settings(), name)
        if name in IN_SECTIONS:
            defaults |= {f"{name}.{key}": getattr(value, key) for key in value.__struct_fields__}
        elif name != "policy":
            defaults[name] = value
    defaults |= {f"policy.{field.encode_name}": field.default.level for field in msgspec.structs.fields(Policy)}
    assert set(found) == defaults.keys() | {*IN_SECTIONS, "policy"}
    for key, default in defaults.items():
        stated = re.search(r"\bdefault (\S+?)[,;:.]? ", found[key], re.IGNORECASE)
        assert stated, f"{key}: no default is stated"
        assert stated[1] == shown(default), key


def shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | int):
        return f"{value:g}"
    return "null" if value is None else "[]" if value == () else str(value)


@pytest.mark.parametrize("kind", [Chat, MissionControl, Ping, Service, Secret, Rule])
def test_every_key_of_what_is_in_lists_is_shown(kind: type[msgspec.Struct]) -> None:
    keys = set(re.findall(r"^#? *(?:- )?([a-z_]+):", FILE.read_text(), re.MULTILINE))
    assert set(kind.__struct_fields__) <= keys


def test_the_examples_can_be_used_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "ops.yaml"
    path.write_text(with_examples(FILE.read_text()))
    used = settings.load(str(path))
    assert [service.unit for service in used.services] == ["llama-server.service"]
    assert [(chat.name, chat.alerts, chat.status) for chat in used.chats] == [("night-watch", True, False), ("team", True, True)]
    assert used.mission_control is not None
    assert msgspec.structs.replace(used.mission_control, url="http://x", board="b", task="t", token=Secret(file="f")) == MissionControl(
        url="http://x", board="b", task="t", token=Secret(file="f")
    )
    assert [ping.job for ping in used.pings] == ["prune-sessions"]


def test_no_example_holds_a_secret_and_all_of_them_name_where_it_is() -> None:
    text = FILE.read_text()
    assert len(re.findall(r"^#.*\b(file|command): ", text, re.MULTILINE)) == 4
    assert re.findall(r"(url|token): [^h\s]\S*", with_examples(text)) == []


def test_a_section_whose_lines_are_all_taken_away_has_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "ops.yaml"
    path.write_text("openclaw:\nchats:\n")
    assert settings.load(str(path)) == Settings(openclaw=OpenClaw())
