"""mmtools-install: what it writes, that it takes nothing of others, and that whoever is killed in the middle leaves old or new."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE_S, ROOT, call
from faults import ERRORS, KILLS, Kind, every_fault
from houses import house, put_on_path

from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.ops import installation, settings, templates
from mmtools.ops.installation import Plan
from mmtools.ops.settings import Settings
from mmtools.ops.templates import Place
from mmtools.state import StateDir

FOREIGN = b"# mine\nMAILTO=anna\n5 4 * * * theirs > /dev/null\n"
GATEWAY = "openclaw-gateway.service"
TIMERS = [f"mmtools-{job}.timer" for job in ("alerts", "memory", "prune", "report", "snapshot", "status")]


@dataclass(frozen=True, slots=True)
class World:
    """A user with a crontab of his own, a manager, and a checkout that has all commands."""

    place: Place
    tab: Path
    manager: Path

    @property
    def state(self) -> StateDir:
        return StateDir(self.place.state)

    def install(self, how: installation.How, gateway_unit: str | None = None) -> Plan:
        plan = installation.plan_install(self.state, self.place, how=how, why="asked for", gateway_unit=gateway_unit)
        installation.carry_out(self.state, plan)
        return plan

    def uninstall(self) -> Plan:
        plan = installation.plan_uninstall(self.state, self.place)
        installation.carry_out(self.state, plan)
        return plan

    def mood(self, what: str) -> None:
        (self.manager / "mood").write_text(what)

    def calls(self) -> list[str]:
        file = self.manager / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def units(self) -> dict[str, str]:
        """Return the files below the folder of units; a link by where it leads."""
        folder = self.place.units
        files = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file())
        return {str(path.relative_to(folder)): f"-> {path.readlink().name}" if path.is_symlink() else path.read_text() for path in files}

    def everything(self) -> dict[str, bytes]:
        """Return every file of the world by its path."""
        folder = self.place.root.parent
        return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} | {"tab": self.tab.read_bytes()}

    def forget(self) -> None:
        """Be as before anything was installed."""
        shutil.rmtree(self.place.state, ignore_errors=True)
        shutil.rmtree(self.place.config.parent, ignore_errors=True)
        for name in ("calls", "enabled"):
            (self.manager / name).unlink(missing_ok=True)
        self.tab.write_bytes(FOREIGN)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """In memory where that can be: hundreds of installations would wait for the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as root:
        folder = Path(root)
        place = house(folder)
        tab, manager = folder / "tab", folder / "manager"
        manager.mkdir()
        tab.write_bytes(FOREIGN)
        monkeypatch.setenv("PATH", put_on_path(tmp_path / "fakes", crontab="crontab", systemctl="user_units", loginctl="user_units"))
        monkeypatch.setenv("FAKE_CRONTAB", str(tab))
        monkeypatch.setenv("FAKE_UNITS", str(manager))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(place.config.parent))
        yield World(place, tab, manager)


def block(world: World) -> bytes:
    return templates.block(world.place, world.place.commands()).encode()


# --- cron


def test_the_block_stands_behind_the_lines_of_others_and_a_second_time_nothing_changes(world: World) -> None:
    plan = world.install("cron")
    assert world.tab.read_bytes() == FOREIGN + block(world)
    assert [(Path(change.what).name, change.does) for change in plan.changes] == [("ops.yaml", "write"), ("crontab", "write")]
    before = world.everything()
    assert world.install("cron").is_empty
    assert world.everything() == before
    assert world.units() == {}
    assert world.calls() == []


def test_a_block_of_an_earlier_version_is_replaced_and_one_changed_by_hand_is_not(world: World) -> None:
    world.install("cron")
    template = world.place.root / "crontab" / "mmtools.crontab"
    template.write_text(template.read_text().replace("/snapshot@ * * * *", "x").replace("* * * * * @BIN@", "*/2 * * * * @BIN@"))
    assert [change.does for change in world.install("cron").changes] == ["update"]
    assert world.tab.read_bytes() == FOREIGN + block(world)
    changed = world.tab.read_bytes().replace(b"*/2", b"*/3")
    world.tab.write_bytes(changed)
    plan = world.install("cron")
    assert [kept.partition(":")[0] for kept in plan.kept] == ["the block in the crontab"]
    plan = world.uninstall()
    assert len(plan.kept) == 1
    assert world.tab.read_bytes() == changed
    assert world.uninstall().kept == [], "it is ours no more"


def test_uninstalling_leaves_the_crontab_as_it_was_and_nothing_else_of_ours(world: World) -> None:
    world.install("cron")
    world.uninstall()
    assert world.tab.read_bytes() == FOREIGN
    assert world.state.read(installation.INSTALLED, schema=installation.INSTALLED_SCHEMA) is None
    assert not (world.place.config / "ops.yaml").exists()
    assert world.uninstall().is_empty


def test_a_crontab_that_another_changes_meanwhile_is_not_overwritten(world: World) -> None:
    plan = installation.plan_install(world.state, world.place, how="cron", why="", gateway_unit=None)
    world.tab.write_bytes(FOREIGN + b"6 6 6 6 6 new\n")
    with pytest.raises(TryLater, match="changed by another just now"):
        installation.carry_out(world.state, plan)
    assert world.tab.read_bytes() == FOREIGN + b"6 6 6 6 6 new\n"
    world.install("cron")
    assert world.tab.read_bytes() == FOREIGN + b"6 6 6 6 6 new\n" + block(world)


# --- systemd


def test_units_are_written_told_and_enabled_and_a_second_time_nothing_changes(world: World) -> None:
    world.install("systemd")
    units = world.units()
    rendered = templates.units(world.place, world.place.commands())
    assert units == {**rendered, **{f"timers.target.wants/{timer}": f"-> {timer}" for timer in TIMERS}}
    assert world.calls() == ["--user daemon-reload", f"--user enable --now {' '.join(TIMERS)}"]
    assert world.tab.read_bytes() == FOREIGN
    before = world.everything()
    assert world.install("systemd").is_empty
    assert (world.everything(), len(world.calls())) == (before, 2)


def test_a_timer_that_was_stopped_is_started_again(world: World) -> None:
    world.install("systemd")
    (world.manager / "enabled").write_text("\n".join(TIMERS[1:]))
    plan = world.install("systemd")
    assert plan.changes == []
    assert world.calls()[-1] == f"--user enable --now {' '.join(TIMERS)}"


def test_without_a_manager_the_files_are_written_and_what_to_call_later_is_said_until_one_has_heard(world: World) -> None:
    world.mood("no bus")
    for _ in range(2):
        plan = world.install("systemd")
        assert plan.later == ["systemctl --user daemon-reload", f"systemctl --user enable --now {' '.join(TIMERS)}"]
    assert "mmtools-alerts.timer" in world.units()
    world.mood("")
    assert world.install("systemd").later == []
    assert world.calls() == ["--user daemon-reload", f"--user enable --now {' '.join(TIMERS)}"]
    assert world.install("systemd").is_empty


def test_a_manager_that_hangs_is_waited_for_no_longer_than_its_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "LIMIT_S", 0.3)
    world.mood("hang")
    assert world.install("systemd").later != []


def test_lingering_that_is_off_is_said(world: World) -> None:
    world.mood("no")
    assert world.install("systemd").later == ["loginctl enable-linger"]


def test_uninstalling_stops_the_timers_and_removes_what_was_written(world: World) -> None:
    world.install("systemd", GATEWAY)
    assert f"{GATEWAY}.d/mmtools.conf" in world.units()
    theirs = world.place.units / "theirs.service"
    theirs.write_text("[Service]\n")
    world.uninstall()
    assert world.units() == {"theirs.service": "[Service]\n"}
    assert world.calls()[-2:] == [f"--user disable --now {' '.join(TIMERS)}", "--user daemon-reload"]
    assert not (world.place.units / f"{GATEWAY}.d").exists()


def test_uninstalling_without_a_manager_removes_the_links_too(world: World) -> None:
    world.install("systemd")
    world.mood("no bus")
    assert world.uninstall().later == ["systemctl --user daemon-reload"]
    assert world.units() == {}


def test_a_unit_changed_by_hand_is_kept_and_named_when_installing_and_when_removing(world: World) -> None:
    world.install("systemd")
    unit = world.place.units / "mmtools-prune.service"
    unit.write_text(unit.read_text() + "Nice=19\n")
    for plan in (world.install("systemd"), world.uninstall()):
        (kept,) = plan.kept
        assert kept.startswith(f"{unit}: changed by hand")
    assert list(world.units()) == ["mmtools-prune.service"]


@pytest.mark.parametrize("there", ["a file", "a link"])
def test_a_unit_that_is_not_ours_is_never_replaced(world: World, there: str) -> None:
    unit = world.place.units / "mmtools-alerts.service"
    unit.parent.mkdir(parents=True)
    if there == "a file":
        unit.write_text("[Service]\nExecStart=theirs\n")
    else:
        unit.symlink_to("/dev/null")  # masked
    plan = world.install("systemd")
    assert [kept.partition(":")[0] for kept in plan.kept] == [str(unit)]
    assert unit.is_symlink() == (there == "a link")
    assert "ExecStart=theirs" in unit.read_text() or unit.is_symlink()


def test_a_run_that_is_enabled_keeps_its_template(world: World) -> None:
    world.install("systemd")
    link = world.place.units / "default.target.wants" / "quote-run@rain.service"
    link.parent.mkdir()
    link.symlink_to(world.place.units / "quote-run@.service")
    (kept,) = world.uninstall().kept
    assert "systemctl --user disable --now quote-run@rain.service" in kept
    assert "quote-run@.service" in world.units()
    link.unlink()
    assert world.uninstall().kept == []
    assert world.units() == {}


def test_a_unit_of_an_earlier_version_is_replaced_or_removed(world: World) -> None:
    world.install("systemd")
    template = world.place.root / "systemd" / "mmtools-report.service"
    template.write_text(template.read_text() + "# new\n")
    for kind in ("service", "timer"):
        (world.place.root / "systemd" / f"mmtools-prune.{kind}").unlink()
    plan = world.install("systemd")
    assert {(Path(change.what).name, change.does) for change in plan.changes} == {
        ("mmtools-report.service", "update"), ("mmtools-prune.service", "remove"), ("mmtools-prune.timer", "remove"),
    }  # fmt: skip
    assert "--user disable --now mmtools-prune.timer" in world.calls()
    left = [timer for timer in TIMERS if "prune" not in timer]
    assert world.units().keys() == {*templates.units(world.place, world.place.commands()), *(f"timers.target.wants/{t}" for t in left)}


# --- one or the other


def test_going_from_cron_to_systemd_and_back_leaves_one_of_them(world: World) -> None:
    world.install("cron")
    world.install("systemd")
    assert world.tab.read_bytes() == FOREIGN
    assert "mmtools-alerts.timer" in world.units()
    world.install("cron")
    assert world.tab.read_bytes() == FOREIGN + block(world)
    assert world.units() == {}


def test_the_gateways_drop_in_brings_the_units_it_starts_and_stays(world: World) -> None:
    plan = world.install("cron", GATEWAY)
    assert world.units().keys() == {f"{GATEWAY}.d/mmtools.conf", *templates.FOR_DROP_IN}
    assert plan.kept == []
    assert world.install("cron").is_empty


def test_a_drop_in_without_the_commands_it_starts_is_left_out(world: World) -> None:
    (world.place.bin / "recover").unlink()
    assert "recover" in world.install("cron", GATEWAY).lacking
    assert world.units() == {}


@pytest.mark.parametrize(
    ("mood", "how", "words"),
    [
        ("", "systemd", "lingering is on"),
        ("no", "cron", "enable-linger"),
        ("unknown", "cron", "not known"),
        ("no bus", "cron", "no user manager"),
    ],
)
def test_the_manager_is_taken_where_it_answers_and_stays(world: World, mood: str, how: str, words: str) -> None:
    world.mood(mood)
    chosen, why = installation.choose()
    assert chosen == how
    assert words in why


# --- settings


def test_settings_are_copied_where_there_are_none_and_never_touched_again(world: World) -> None:
    world.install("cron")
    file = world.place.config / "ops.yaml"
    assert settings.load(str(file)) == Settings()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("snapshots: {keep: 7}\n")
    world.install("cron")
    (kept,) = world.uninstall().kept
    assert kept.startswith(str(file))
    assert file.read_text() == "snapshots: {keep: 7}\n"


# --- faults


def whole(world: World) -> None:
    """Old or new: the crontab with or without the block, each unit as rendered or not there."""
    assert world.tab.read_bytes() in (FOREIGN, FOREIGN + block(world))
    rendered = templates.units(world.place, world.place.commands())
    for name, text in world.units().items():
        if not text.startswith("-> ") and not name.endswith(installation.NEW):
            assert text == rendered[name]


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("cron", "kill-half"),
        *(slow("cron", kind) for kind in (*KILLS, *ERRORS) if kind != "kill-half"),
        *(slow("systemd", kind) for kind in ("kill-after", "enospc-half")),
    ],
)
def test_an_installation_stopped_anywhere_leaves_old_or_new_and_running_again_finishes(
    world: World, how: installation.How, kind: Kind
) -> None:
    world.install(how)
    expected = {path: content for path, content in world.everything().items() if "/locks/" not in path}
    world.forget()

    def run() -> int:
        try:
            world.install(how)
        except (TryLater, Misconfigured):
            return 75
        return 0

    for outcome in every_fault(kind, run):
        assert outcome.status in (0, 75, None), outcome.stderr
        whole(world)
        assert world.install(how).kept == []
        assert {path: content for path, content in world.everything().items() if "/locks/" not in path} == expected
        world.forget()


@pytest.mark.parametrize("kind", ["kill-half", *(slow(kind) for kind in KILLS if kind != "kill-half")])
def test_a_removal_killed_anywhere_is_finished_by_the_next(world: World, kind: Kind) -> None:
    def run() -> int:
        world.uninstall()
        return 0

    world.install("cron")
    for _ in every_fault(kind, run):
        whole_or_gone = world.tab.read_bytes()
        assert whole_or_gone in (FOREIGN, FOREIGN + block(world))
        assert world.uninstall().kept == []
        assert (world.tab.read_bytes(), world.units()) == (FOREIGN, {})
        world.install("cron")


def test_what_was_installed_is_not_taken_for_nothing_when_its_list_is_broken(world: World) -> None:
    world.install("cron")
    (world.place.state / installation.INSTALLED).write_text("{")
    with pytest.raises(Refused, match="is broken"):
        world.uninstall()
    assert world.tab.read_bytes() == FOREIGN + block(world)


# --- the command


def command(world: World, *args: str) -> tuple[int, Any]:
    said = call("mmtools_install", "--json", "--state", world.place.state, *args)
    return said.code, said.document


def test_a_dry_run_shows_what_would_change_and_changes_nothing(world: World) -> None:
    before = world.everything()
    said = call("mmtools_install", "--user", "--cron", "--dry-run", "--state", world.place.state)
    assert said.code == 0
    assert "would write crontab" in said.out
    assert "    +# <<< mmtools <<<" in said.out
    assert "would write " + str(world.place.config / "ops.yaml") in said.out
    code, document = command(world, "--user", "--systemd", "--dry-run")
    assert (code, document["schema"], document["dry_run"], document["how"]) == (0, "mmtools.install/1", True, "systemd")
    assert world.everything() == before
    assert not world.place.state.exists()
    assert world.calls() == []


def test_what_a_dry_run_shows_is_what_is_then_done(world: World) -> None:
    shown = command(world, "--user", "--cron", "--dry-run")[1]
    done = command(world, "--user", "--cron")[1]
    assert {**shown, "dry_run": False} == done
    assert command(world, "--user", "--cron")[1]["changes"] == []


def test_the_command_installs_removes_and_exits_1_for_what_was_changed_by_hand(world: World) -> None:
    assert command(world, "--user")[1]["how"] == "systemd"
    assert command(world, "--user", "--cron")[0] == 0
    world.tab.write_bytes(world.tab.read_bytes().replace(b"MMTOOLS_STATE", b"MMTOOLS_STATES"))
    code, document = command(world, "--user", "--uninstall")
    assert (code, len(document["kept"])) == (1, 1)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--cron",),
        *(("--user", *two) for two in (("--cron", "--systemd"), ("--uninstall", "--cron"), ("--uninstall", "--gateway-dropin"))),
    ],
)
def test_options_that_do_not_go_together_are_refused(world: World, args: tuple[str, ...]) -> None:
    assert command(world, *args)[0] == 2
    assert world.tab.read_bytes() == FOREIGN


@pytest.mark.parametrize("args", [("--cron",), ("--cron", "--dry-run"), ("--uninstall",)])
def test_a_second_one_at_once_is_told_to_come_back(world: World, args: tuple[str, ...]) -> None:
    with world.state.lock("mmtools-install"):
        code, document = command(world, "--user", *args)
    assert (code, document["schema"]) == (75, "mmtools.error/1")


def test_a_command_that_is_ended_in_the_middle_says_so_and_leaves_the_crontab_whole(world: World) -> None:
    world.tab.with_name("tab.mood").write_text("hang")
    process = subprocess.Popen(
        [sys.executable, "-m", "mmtools.commands.mmtools_install", "--user", "--cron", "--json", "--state", str(world.place.state)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    lock = world.place.state / "locks" / "mmtools-install.lock"
    while not lock.exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, json.loads(out)["error"]["kind"]) == (130, "interrupted")
    assert world.tab.read_bytes() == FOREIGN


def test_a_folder_that_cannot_be_looked_into_is_said(world: World) -> None:
    world.place.units.mkdir(parents=True)
    long = replace(world.place, units=world.place.units / ("x" * 300))
    with pytest.raises(Misconfigured, match="File name too long"):
        installation.plan_install(world.state, long, how="systemd", why="", gateway_unit=None)


def test_only_a_checkout_can_be_installed_from(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="is no checkout"):
        templates.here(tmp_path, tmp_path, {})


def test_the_place_of_a_user_follows_his_environment() -> None:
    place = templates.here(ROOT, Path("/s"), {"XDG_CONFIG_HOME": "/c", "XDG_CACHE_HOME": "relative", "PATH": "/x:/y z:rel:/usr/bin"})
    assert (place.config, place.units) == (Path("/c/mmtools"), Path("/c/systemd/user"))
    assert place.cache == Path.home() / ".cache" / "mmtools"
    assert place.path == "/x:/usr/bin:/usr/local/bin:/bin"
    assert place.carried == {"XDG_CONFIG_HOME": "/c"}
