"""ops.yaml: checked to the last key, defaults without a file, and secrets that are only ever named."""

from pathlib import Path

import pytest

from mmtools.errors import Misconfigured
from mmtools.ops import settings
from mmtools.ops.settings import Secret, Settings

TOKEN = "t0ken-of-the-board"


def written(folder: Path, text: str) -> str:
    path = folder / "ops.yaml"
    path.write_text(text)
    return str(path)


def test_without_a_file_everything_has_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings.load(None) == Settings()


def test_the_file_at_its_usual_place_is_found_and_a_named_one_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "mmtools").mkdir()
    written(tmp_path / "mmtools", "snapshots: {keep: 7}\n")
    assert settings.load(None).snapshots.keep == 7
    with pytest.raises(Misconfigured, match=r"no such file; name a settings file, such as configs/ops\.yaml"):
        settings.load(str(tmp_path / "other.yaml"))


def test_a_file_of_which_nobody_can_say_whether_it_is_there_is_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ("x" * 300)))
    with pytest.raises(Misconfigured, match="File name too long"):
        settings.load(None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "mmtools").mkdir()
    (tmp_path / "mmtools" / "ops.yaml").symlink_to(tmp_path / "on-a-disk-that-is-away.yaml")
    with pytest.raises(Misconfigured, match="no such file"):
        settings.load(None)


def test_a_section_whose_lines_are_all_commented_out_has_its_defaults(tmp_path: Path) -> None:
    assert settings.load(written(tmp_path, "memory:\nchats:\nmission_control:\n")) == Settings()
    assert settings.load(written(tmp_path, "")) == Settings()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("memory:\n  act_above: 1.7\n", r":2: memory\.act_above is 1\.7; it must be a number above 0 and at most 1"),
        ("memory: {act_abov: 0.5}\n", r":1: unknown key memory\.act_abov; did you mean act_above\?"),
        ("colour: blue\n", r":1: unknown key colour; configs/ops\.yaml names every key"),
        ("- a\n", r"the file holds a list; write `key: value` lines, as in configs/ops\.yaml"),
        ("policy: {format-disk: {level: low}}\n", r"unknown key policy\.format-disk; the keys here are restart-gateway, restart-unit"),
        (
            "policy: {restart-unit: {level: often}}\n",
            r"policy\.restart-unit\.level is \"often\"; it must be one of forbidden, high, low, medium",
        ),
        ("chats: [{name: a, url: {file: x}}, {name: a, url: {file: y}}]\n", r"chats: two have one name"),
        ("chats: [{name: a, url: {}}]\n", r"name either a file or a command"),
        ("chats: [{name: a, url: {file: x, command: [y]}}]\n", r"name either a file or a command"),
        ("pings: [{job: quote-run, url: {file: x}}]\n", r"pings\[0\]\.job is \"quote-run\"; it must be one of prune-sessions, recover, "),
        ("pings: [{job: recover, url: {file: x}}, {job: recover, url: {file: y}}]\n", r"pings: a job has two"),
        ("openclaw: {url: ftp://x}\n", r"openclaw\.url"),
        ("openclaw: {unit: gateway}\n", r"openclaw\.unit"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_what_is_allowed(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(Misconfigured, match=complaint):
        settings.load(written(tmp_path, text))


def test_a_rule_of_the_file_replaces_the_default_of_its_action_alone(tmp_path: Path) -> None:
    found = settings.load(written(tmp_path, "policy: {restart-gateway: {level: forbidden, when: [disk_ok]}}\n"))
    assert (found.rule("restart-gateway").level, found.rule("restart-gateway").when) == ("forbidden", ("disk_ok",))
    assert found.rule("prune-sessions") == Settings().rule("prune-sessions")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("7d", 604_800), ("0h", 0)])
def test_durations_are_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert settings.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1w", "1 h", "1h30m", "٣h", "1e3s", "nand"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write a number and s, m, h or d"):
        settings.seconds(text)


def test_a_secret_comes_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"  {TOKEN}\n")
    path.chmod(0o600)
    assert Secret(file=str(path)).reveal("token of the board") == TOKEN
    path.chmod(0o640)
    with pytest.raises(Misconfigured, match=f"others can read {path}; run `chmod 600") as refused:
        Secret(file=str(path)).reveal("token of the board")
    assert TOKEN not in str(refused.value)


def test_a_secret_comes_from_a_command_whose_words_are_never_told(tmp_path: Path) -> None:
    assert Secret(command=("printf", TOKEN)).reveal("token") == TOKEN
    with pytest.raises(Misconfigured, match=r"its command sh failed \(exit 3\)") as refused:
        Secret(command=("sh", "-c", f"echo {TOKEN}; exit 3")).reveal("token")
    assert TOKEN not in str(refused.value)
    with pytest.raises(Misconfigured, match="cannot be started"):
        Secret(command=(str(tmp_path / "missing"),)).reveal("token")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"one\ntwo\n", b"\xff\xfe", b"a\x00b"])
def test_what_holds_no_secret_of_one_line_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Misconfigured, match="holds no secret of one line"):
        Secret(file=str(path)).reveal("token")
