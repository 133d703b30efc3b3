"""One HTTP question: whatever the other side does, it is over in time, and no word of the address is told."""

import socket
import time

import pytest
from asked import Server, answer, drip, json_answer
from loopback import unused_port

from mmtools.ops import web
from mmtools.ops.web import Answer, NoAnswer, Silence


def test_an_answer_comes_with_status_kind_headers_and_body() -> None:
    with Server(answer(404, "Application/JSON; charset=utf-8", b'{"a": 1}', "X-Wait: 7")) as server:
        found = web.ask(server.url + "/x?y=1", limit_s=10, headers={"X-Token": "t"})
    assert isinstance(found, Answer)
    assert (found.status, found.kind, found.headers["x-wait"], found.json()) == (404, "application/json", "7", {"a": 1})
    assert server.paths == ["/x?y=1"]
    assert b"X-Token: t" in server.requests[0]
    assert b"User-Agent: mmtools/" in server.requests[0]


def test_a_redirect_is_not_followed() -> None:
    with Server(json_answer("{}")) as other, Server(answer(302, "text/plain", b"", f"Location: {other.url}/elsewhere")) as server:
        found = web.ask(server.url, limit_s=10)
    assert isinstance(found, Answer)
    assert found.status == 302
    assert other.paths == []


def test_nobody_listening_is_known_to_be_unheard() -> None:
    found = web.ask(f"http://127.0.0.1:{unused_port()}/secret-token", limit_s=10)
    assert isinstance(found, NoAnswer)
    assert (found.why, found.unheard) == (Silence.REFUSED, True)


def test_a_name_that_cannot_be_found_is_unheard() -> None:
    found = web.ask("http://no-such-host.invalid/secret-token", limit_s=20)
    assert isinstance(found, NoAnswer)
    assert found.unheard
    assert "secret" not in found.text


def test_a_server_that_takes_the_question_and_says_nothing_may_have_heard_it() -> None:
    with Server(lambda path, connection: server.hang(path, connection)) as server:
        found = web.ask(server.url + "/secret-token", limit_s=0.5)
    assert found == NoAnswer(Silence.LATE, "no answer within 0.5 s")
    assert not found.unheard


@pytest.mark.parametrize("where", ["head", "body"])
def test_an_answer_that_drips_is_over_in_time_all_the_same(where: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + b"X-Pad: " + b"x" * 2000 + b"\r\n\r\n"

    def slow(_: str, connection: socket.socket) -> None:
        if where == "body":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n")
        drip(connection, head, 0.05, server.stopping)

    with Server(slow) as server:
        began = time.monotonic()
        found = web.ask(server.url, limit_s=1)
        took = time.monotonic() - began
    assert isinstance(found, NoAnswer)
    assert found.why is Silence.LATE
    assert took < 30  # the drip takes a hundred seconds


@pytest.mark.parametrize("octets", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort"])
def test_an_answer_that_breaks_off_may_have_been_heard(octets: bytes) -> None:
    with Server(lambda _, connection: connection.sendall(octets)) as server:
        found = web.ask(server.url + "/secret-token", limit_s=10)
    assert isinstance(found, NoAnswer)
    assert (found.why, found.unheard) == (Silence.BROKEN, False)
    assert "secret" not in found.text


def test_a_flood_is_no_answer() -> None:
    with Server(answer(200, "text/plain", b"x" * (web.MOST_BYTES + 1))) as server:
        found = web.ask(server.url, limit_s=20)
    assert isinstance(found, NoAnswer)
    assert found.why is Silence.BROKEN


@pytest.mark.parametrize(
    ("body", "why"), [(b"<html>", "Expecting value"), (b"[" * 100_000, "nested too deeply"), (b"\xff", "decode byte 0xff")]
)
def test_json_that_is_none_or_nested_without_end_is_a_value_error(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Answer(status=200, kind="application/json", headers={}, body=body).json()
