"""Processes as /proc shows them, looked at with real ones; and command lines whose secrets must not get through."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from commandline import PATIENCE_S, ROOT
from hypothesis import given
from hypothesis import strategies as st

from mmtools.ops import processes
from mmtools.ops.masking import LONGEST, MASK, masked
from mmtools.ops.processes import Process

SLEEP = "import sys, time; print('up', flush=True); time.sleep(60)"


@contextmanager
def sleeping(*words: str) -> Iterator["subprocess.Popen[str]"]:
    """A child that sleeps for at most a minute, its command line ending in these words."""
    child = subprocess.Popen([sys.executable, "-c", SLEEP, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def of(child: "subprocess.Popen[str]") -> Process:
    process = processes.read(child.pid)
    assert process is not None
    return process


def test_a_process_is_found_by_its_command_line_and_known_again() -> None:
    with sleeping("mark-4711") as child:
        found = processes.find(lambda process: "mark-4711" in process.argv)
        assert [process.pid for process in found] == [child.pid]
        assert found[0].argv[-1] == "mark-4711"
        assert found[0].cwd == os.getcwd()
        assert found[0].exe == os.path.realpath(sys.executable)
        assert processes.is_same(found[0])
    assert not processes.is_same(found[0])
    assert processes.read(child.pid) is None


def test_a_used_again_pid_is_another_process() -> None:
    with sleeping() as child:
        process = of(child)
        assert not processes.is_same(dataclasses.replace(process, start_ticks=process.start_ticks - 1))


def test_a_process_of_another_boot_is_another_process() -> None:
    with sleeping() as child:
        process = of(child)
        assert not processes.is_same(dataclasses.replace(process, boot_id="0b5f8e3c-0000-4000-8000-000000000000"))
        assert not processes.is_same(dataclasses.replace(process, boot_id=""))


def test_a_child_that_ended_and_was_not_waited_for_does_not_live() -> None:
    with sleeping() as child:
        process = of(child)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not processes.is_same(process)
        assert processes.read(child.pid) is None


def test_a_title_in_one_word_is_read_as_words() -> None:
    title = "my-gateway --port 9 --token abc"
    with subprocess.Popen([title], executable="/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("up\n")
        child.stdin.flush()
        assert child.stdout.readline() == "up\n"
        assert of(child).argv == ("my-gateway", "--port", "9", "--token", MASK)
        child.stdin.close()


@pytest.mark.parametrize(
    "argv",
    [
        ["x", "--token", "SeCrEt1"],
        ["x", "--token=SeCrEt1"],
        ["x", "--pass", "SeCrEt1"],
        ["sh", "-c", "x --db-pass SeCrEt1"],
        ["x", "SeCrEt1 " + "and a long prompt " * 300],
        ["x", "--gateway.auth.token", "SeCrEt1", "--port", "1"],
        ["x", "config", "set", "gateway.auth.token", "SeCrEt1"],
        ["env", "API_KEY=SeCrEt1", "x"],
        ["env", "DB_PASSWORD=SeCrEt1 SeCrEt1", "x"],
        ["curl", "-H", "Authorization: Bearer SeCrEt1"],
        ["curl", "-H", "X-Agent-Token: SeCrEt1"],
        ["curl", "-u", "me:SeCrEt1"],
        ["curl", "-ume:SeCrEt1"],
        ["curl", "--user=me:SeCrEt1"],
        ["curl", "https://me:SeCrEt1@host.example/x"],
        ["curl", "https://discord.com/api/webhooks/123/SeCrEt1"],
        ["curl", "https://hooks.slack.com/services/T0/B0/SeCrEt1"],
        ["curl", "https://api.telegram.org/bot1:SeCrEt1/sendMessage"],
        ["curl", "https://host.example?sig=SeCrEt1"],
        ["apprise", "tgram://SeCrEt1/chat"],
        ["sh", "-c", "curl --token SeCrEt1 x; API_TOKEN='SeCrEt1 SeCrEt1' y"],
        ["sh", "-c", "curl -H 'Authorization: Bearer SeCrEt1' https://SeCrEt1@host/SeCrEt1"],
        ["x", "--params", '{"apiKey": "SeCrEt1 SeCrEt1", "n": 1}'],
        ["x", "sk-SeCrEt1abcdefghijk"],
        ["x", "123456789:SeCrEt1abcdefghijklmnopqr"],
    ],
)
def test_no_secret_of_a_command_line_gets_through(argv: list[str]) -> None:
    shown = " ".join(masked(argv))
    assert "SeCrEt1" not in shown
    assert MASK in shown
    assert shown.startswith(argv[0])


@pytest.mark.parametrize(
    "argv",
    [
        ["/opt/mmtools/bin/quote-run", "--config", "/state/runs/game-1/run.yaml", "--run-id", "game-1", "--owner", "recover"],
        ["openclaw-gateway"],
        ["node", "/usr/lib/openclaw/index.js", "gateway", "--port", "18789", "http://127.0.0.1:18789"],
    ],
)
def test_what_is_no_secret_stays_readable(argv: list[str]) -> None:
    assert masked(argv) == tuple(argv)


@pytest.mark.parametrize("piece", ["a", "a-", "token", "token-", "eyJ", "http:", "0", " key "])
def test_a_word_of_a_stranger_costs_no_more_time_than_it_is_long(piece: str) -> None:
    """One that did would keep every snapshot and every revival waiting, for hours."""
    for length in (LONGEST, 130_000):
        code = f"from mmtools.ops.masking import masked; masked([({piece!r} * {length})[:{length}]])"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=PATIENCE_S, check=True)


@given(st.lists(st.text(max_size=12), max_size=6), st.sampled_from(["--token", "--api-key", "PASSWORD", "auth.secret"]))
def test_the_word_behind_a_secret_name_is_masked_whatever_stands_around(words: list[str], name: str) -> None:
    assert masked([*words, "x", name, "GEHEIM4711"])[-1] == MASK
    assert all("GEHEIM4711" not in word for word in masked([*words, f"{name}=GEHEIM4711", *words]))
