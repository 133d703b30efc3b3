"""The gateway over HTTP: what counts as health, and that a page with status 200 does not."""

import socket

import pytest
from asked import Answerer, Server, answer, json_answer
from loopback import unused_port

from mmtools.ops.gateway import Health, probe

PAGE = answer(200, "text/html; charset=utf-8", b"<!doctype html><title>Control</title>")


@pytest.mark.parametrize(
    ("said", "health"),
    [
        (PAGE, Health.PAGE),
        (json_answer('{"ok":true,"status":"live"}'), Health.LIVE),
        (json_answer('{"ok":false,"status":"draining"}'), Health.NOT_READY),
        (json_answer('{"ready":true}', 503), Health.NOT_READY),
        (json_answer('{"ok":true}', 500), Health.ODD),
        (json_answer('{"ok":"yes"}'), Health.ODD),
        (json_answer("[]"), Health.ODD),
        (json_answer("{"), Health.ODD),
        (answer(404, "text/plain", b"no"), Health.ODD),
        (answer(200, "text/plain", b'{"ok":true}'), Health.ODD),
        (lambda _, connection: connection.close(), Health.HUNG),
    ],
)
def test_only_a_json_body_that_says_so_is_health(said: Answerer, health: Health) -> None:
    with Server(said) as server:
        assert probe(server.url, limit_s=5).health is health


def test_a_hung_gateway_is_not_a_gateway_that_is_gone() -> None:
    with Server(lambda path, connection: server.hang(path, connection)) as server:
        assert probe(server.url, limit_s=0.3).health is Health.HUNG
    assert probe(f"http://127.0.0.1:{unused_port()}", limit_s=5).health is Health.DOWN


def by_path(answers: dict[str, Answerer]) -> Answerer:
    def play(path: str, connection: socket.socket) -> None:
        answers.get(path, PAGE)(path, connection)

    return play


def test_a_release_without_startupz_tells_its_uptime_by_readyz() -> None:
    ready = json_answer('{"ready":true,"failing":[],"uptimeMs":28512}')
    with Server(by_path({"/healthz": json_answer('{"ok":true,"status":"live"}'), "/readyz": ready})) as server:
        found = probe(server.url + "/", limit_s=5)
    assert (found.health, found.uptime_ms, found.version) == (Health.LIVE, 28512, None)


@pytest.mark.parametrize("uptime", ["1" + "0" * 400, "-1", "true", "1.5", '"9"'])
def test_an_uptime_that_can_be_none_is_not_known(uptime: str) -> None:
    with Server(json_answer(f'{{"ok":true,"uptimeMs":{uptime}}}')) as server:
        found = probe(server.url, limit_s=5)
    assert (found.health, found.uptime_ms) == (Health.LIVE, None)


def test_a_channel_that_is_down_is_no_reason_to_call_the_gateway_ill() -> None:
    ready = json_answer('{"ready":false,"failing":["slack"],"uptimeMs":9}', 503)
    with Server(by_path({"/healthz": json_answer('{"ok":true}'), "/readyz": ready})) as server:
        found = probe(server.url, limit_s=5)
    assert (found.health, found.uptime_ms) == (Health.LIVE, 9)


def test_a_gateway_that_is_still_starting_is_not_ready_though_it_lives() -> None:
    starting = json_answer('{"ok":false,"status":"starting","version":"2026.9.6","uptimeMs":1200}', 503)
    with Server(by_path({"/healthz": json_answer('{"ok":true,"status":"live"}'), "/startupz": starting})) as server:
        found = probe(server.url, limit_s=5)
    assert (found.health, found.uptime_ms, found.version) == (Health.NOT_READY, 1200, "2026.9.6")
