"""One message to one chat: what is known of it afterwards, and that nobody learns the address."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import fake_chats
import pytest
from fake_chats import Chat
from loopback import unused_port

from mmtools.ops import chat, children
from mmtools.ops.chat import Exchange, Kind

POINTED = """
import sys
from apprise.plugins import discord, slack, telegram
discord.NotifyDiscord.notify_url = slack.NotifySlack.webhook_url = sys.argv[1]
telegram.NotifyTelegram.notify_url = sys.argv[1] + "/bot"
from mmtools.ops import chat
chat.main()
"""
"""The child, with the services' addresses pointed at a fake."""
DISCORD = "discord://123456789012345678/a-token-of-discord"
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
TELEGRAM = "tgram://123456789:abcdefg_hijklmnop/12315544"
TEXT = "the book fell @everyone <!channel> & <b>*so* did_we</b>"


def through(service: str, fake: Chat) -> chat.Outcome:
    order = json.dumps({"url": service, "text": TEXT, "limit_s": 20}).encode()
    argv = [sys.executable, "-P", "-c", POINTED, f"http://127.0.0.1:{fake.port}"]
    ended = subprocess.run(argv, input=order, capture_output=True, check=False, timeout=60)
    assert not ended.stderr, ended.stderr.decode()
    return chat.read(ended.stdout, ended.returncode)


@pytest.mark.parametrize(
    ("answer", "kind", "wait_s"),
    [
        (fake_chats.BROKEN, Kind.FAILED, None),
        (fake_chats.Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), Kind.FAILED, None),
        (fake_chats.Answer(status=401), Kind.GONE, None),
        (fake_chats.DISCORD_FINDS_IT_BAD, Kind.REJECTED, None),
        (fake_chats.HANGS_UP, Kind.AMBIGUOUS, None),
    ],
)
def test_what_is_known_afterwards_is_told_apart(answer: fake_chats.Answer, kind: Kind, wait_s: float | None) -> None:
    with Chat(answer) as fake:
        outcome = chat.send(fake.url, "one line")
    assert (outcome.kind, outcome.retry_after_s) == (kind, wait_s)
    assert fake.texts == ["one line"]
    assert fake.token not in outcome.why


@pytest.mark.parametrize(
    ("service", "answer", "kind", "wait_s"),
    [
        (DISCORD, fake_chats.Answer(status=204, body=b""), Kind.SENT, None),
        (DISCORD, fake_chats.DISCORD_IS_FULL, Kind.REFUSED, 64.57),
        (DISCORD, fake_chats.DISCORD_IS_GONE, Kind.GONE, None),
        (SLACK, fake_chats.SLACK_IS_FULL, Kind.REFUSED, 30),
        (SLACK, fake_chats.SLACK_TAKES_NOTHING, Kind.AMBIGUOUS, None),
        (TELEGRAM, fake_chats.TELEGRAM_IS_FINE, Kind.SENT, None),
        (TELEGRAM, fake_chats.TELEGRAM_IS_FULL, Kind.REFUSED, 7),
    ],
)
def test_each_service_says_it_in_its_own_way_and_nobody_is_called_by_a_text(
    service: str, answer: fake_chats.Answer, kind: Kind, wait_s: float | None
) -> None:
    with Chat(answer) as fake:
        outcome = through(service, fake)
    assert (outcome.kind, outcome.retry_after_s) == (kind, wait_s)
    (sent,) = fake.received
    words = json.dumps(sent.document, ensure_ascii=False)
    assert "the book fell" in words
    assert "@everyone" not in words
    assert "<!channel>" not in words
    assert "<b>" not in words
    assert ("&amp;" in words) == (service != DISCORD), "where & is markup it must be escaped, or the service refuses the whole"


def test_a_text_full_of_calls_is_no_longer_than_it_was() -> None:
    """One of 1,900 characters that grew would be more than a chat takes, and the alerts in it were given up."""
    text = "@<!" * 633
    assert len(chat.defused(text)) == len(text)


def test_an_error_once_is_no_error_forever() -> None:
    with Chat(fake_chats.BROKEN, fake_chats.FINE) as fake:
        assert [chat.send(fake.url, "again").kind for _ in range(2)] == [Kind.FAILED, Kind.SENT]


def test_where_nobody_listens_nothing_was_sent() -> None:
    outcome = chat.send(f"json://127.0.0.1:{unused_port()}/s3cret", "hello")
    assert outcome == chat.Outcome(kind=Kind.FAILED, why="it cannot be reached")


@pytest.mark.parametrize("url", ["nonsense://s3cret", "discord://s3cret"])
def test_an_address_that_is_none_is_told_without_it(url: str) -> None:
    outcome = chat.send(url, "hello")
    assert outcome.kind is Kind.UNUSABLE
    assert "none that Apprise knows" in outcome.why
    assert "s3cret" not in outcome.why


def test_a_chat_that_never_answers_is_left_and_the_address_stands_in_no_argument() -> None:
    with Chat(fake_chats.NEVER) as fake:
        found: list[chat.Outcome] = []
        thread = threading.Thread(target=lambda: found.append(chat.send(fake.url + "?rto=20", "w0rds", limit_s=2.5)))
        thread.start()
        assert fake.arrived.wait(30)
        (child,) = children_of(os.getpid())
        seen = b"".join(Path("/proc", str(child), name).read_bytes() for name in ("cmdline", "environ"))
        thread.join(30)
    assert b"mmtools.ops.chat" in seen
    assert fake.token.encode() not in seen
    assert b"w0rds" not in seen
    assert found == [chat.Outcome(kind=Kind.AMBIGUOUS, why="no word within 2.5 s")]


def children_of(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = status.read_text()
        except OSError:
            continue
        if f"\nPPid:\t{pid}\n" in lines and b"mmtools.ops.chat" in status.with_name("cmdline").read_bytes():
            found.append(int(status.parent.name))
    return found


@pytest.mark.slow
def test_a_child_whose_parent_was_killed_ends_by_itself() -> None:
    with Chat(fake_chats.NEVER) as fake:
        order = json.dumps({"url": fake.url + "?rto=60", "text": "hello", "limit_s": 1}).encode()
        began = time.monotonic()
        ended = subprocess.run([sys.executable, "-P", "-m", "mmtools.ops.chat"], input=order, capture_output=True, check=False, timeout=60)
    assert ended.returncode < 0
    assert time.monotonic() - began < 50  # the server answers only then
    assert chat.read(ended.stdout, ended.returncode).kind is Kind.AMBIGUOUS


@pytest.mark.parametrize(
    ("out", "kind"),
    [
        (b"", Kind.FAILED),
        (b"{}\n", Kind.AMBIGUOUS),
        (b"{}\nhalf of", Kind.AMBIGUOUS),
        (b'{}\n{"kind": "who knows", "why": "", "retry_after_s": null}\n', Kind.AMBIGUOUS),
        (b"{}\n[]\n", Kind.AMBIGUOUS),
        (b'{}\n{"kind": "sent", "why": "", "retry_after_s": null}\n', Kind.SENT),
    ],
)
def test_only_a_child_that_never_began_is_known_not_to_have_sent(out: bytes, kind: Kind) -> None:
    assert chat.read(out, 1).kind is kind


def test_what_a_child_is_told_is_in_memory_alone() -> None:
    ended = children.run(["readlink", "/proc/self/fd/0"], limit_s=20, stdin=b"s3cret")
    assert isinstance(ended, children.Ended)
    assert ended.out.startswith(b"/memfd:")


def test_a_part_that_went_well_makes_the_whole_uncertain() -> None:
    well, gone = Exchange(status=200, why="HTTP 200"), Exchange(status=404, why="HTTP 404")
    assert chat.judge(False, [well, gone]).kind is Kind.AMBIGUOUS
    assert chat.judge(False, [gone]).kind is Kind.GONE
    assert chat.judge(True, [gone, well]).kind is Kind.SENT
    assert chat.judge(False, []).kind is Kind.AMBIGUOUS


@pytest.mark.parametrize(
    ("headers", "body", "wait_s"),
    [
        ({"Retry-After": "30"}, b"", 30),
        ({"Retry-After": "1", "X-RateLimit-Reset-After": "2.5"}, b'{"retry_after": 1.25}', 2.5),
        ({}, b'{"retry_after": 0.35}', 0.35),
        ({}, b'{"parameters": {"retry_after": 7}}', 7),
        ({"Retry-After": "Fri, 27 Nov 2026 02:00:00 GMT"}, b"[]", None),
        ({"Retry-After": "nan"}, b'{"retry_after": "soon"}', None),
        ({"Retry-After": "-5"}, b'{"retry_after": 1e300}', None),
    ],
)
def test_the_wait_is_found_where_services_say_it(headers: dict[str, str], body: bytes, wait_s: float | None) -> None:
    assert chat.retry_after(headers, body) == wait_s


MEASURED = """
import json, sys
from mmtools.ops import chat
chat.main()
plugins = {name.split(".")[2] for name in sys.modules if name.startswith("apprise.plugins.")}
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
sys.stderr.write(json.dumps([sorted(plugins), int(peak.split()[1])]))
"""


@pytest.mark.parametrize(
    ("url", "plugins", "why"),
    [
        ("json://127.0.0.1:{port}/x", {"base", "custom_json"}, "it cannot be reached"),
        ("mailto://me:pass@127.0.0.1:{port}?to=you@example.com&from=me@example.com", {"base", "email"}, "it cannot be reached"),
        ("nonsense://127.0.0.1:{port}/x", None, "its address is none that Apprise knows; see its list of services"),
    ],
)
def test_the_child_loads_what_it_needs_and_takes_less_than_60_mb(url: str, plugins: set[str] | None, why: str) -> None:
    order = json.dumps({"url": url.format(port=unused_port()), "text": "hello", "limit_s": 20}).encode()
    ended = subprocess.run([sys.executable, "-P", "-c", MEASURED], input=order, capture_output=True, check=True, timeout=60)
    loaded, peak_kb = json.loads(ended.stderr)
    assert chat.read(ended.stdout, 0).why == why
    assert peak_kb < 60 * 1024
    assert set(loaded) == plugins if plugins is not None else len(loaded) > 100
