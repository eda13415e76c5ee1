"""Torn requests, straight to the gateway and through real proxies: refused, and never taken for two."""

from __future__ import annotations

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from tests.canaries import MARK
from tests.fronts.conftest import Behind
from tests.fronts.proxies import Front
from tests.fronts.vectors import AUTH, BODY, CHUNKED, HIDING, NONE, PROXIED, SIZE, post

STATUS = re.compile(rb"HTTP/[0-9]\.[0-9] (\d{3}) ")
AFTER = count()


def exchange(port: int, sent: str | bytes, quiet: float = 1.5) -> tuple[bytes, bool]:
    """Send bytes as they are; give what came until *quiet* seconds of silence, and whether the server closed."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=quiet) as connection:
        try:
            connection.sendall(sent.encode("latin-1") if isinstance(sent, str) else sent)
            while part := connection.recv(65_536):
                got += part
        except TimeoutError:
            return got, False
        except ConnectionError:
            pass
    return got, True


def statuses(got: bytes) -> list[int]:
    """Give the status of every answer."""
    return [int(found) for found in STATUS.findall(got)]


def refusals(got: bytes) -> list[dict[str, object]]:
    """Give every error of the gateway among the answers; each must have its one form, and no secret."""
    assert MARK.encode() not in got
    for head in re.split(rb"HTTP/[0-9]\.[0-9] (?=\d)", got)[1:]:
        assert b"server: image-gateway\r\n" in head.lower(), head
        assert b"aiohttp" not in head.lower()
        assert b"x-request-id: " in head.lower()
    return [json.loads(found)["error"] for found in re.findall(rb'\{"error":\{.*?\}\}', got)]


def test_there_are_enough_of_them() -> None:
    """Sixty at least, as agreed."""
    assert len({*HIDING.values(), *NONE.values(), *PROXIED.values()}) >= 110


@pytest.mark.parametrize("name", HIDING)
def test_a_torn_request_never_hides_a_second_one(behind: Behind, name: str) -> None:
    """One refusal at most for what frames itself in two ways, and the connection is closed."""
    began = len(behind.seen())
    got, closed = exchange(behind.port, HIDING[name])
    seen = behind.seen()[began:]

    assert "/smuggled" not in str(seen)
    assert len(seen) <= 1
    assert len(statuses(got)) <= 1, got
    assert all(status in {400, 408, 413} for status in statuses(got)), got
    assert all(error["type"] == "invalid_request_error" for error in refusals(got))
    assert len(refusals(got)) == len(statuses(got))
    assert closed, got


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_request_is_refused_and_the_connection_closed(behind: Behind, name: str) -> None:
    """A 400 in the form of every other error."""
    got, closed = exchange(behind.port, NONE[name])

    assert statuses(got) == [400] or (not got and len(NONE[name]) > 20_000), got
    assert len(refusals(got)) == len(statuses(got))
    assert closed


@pytest.mark.parametrize("name", PROXIED)
def test_what_leads_others_apart_is_read_in_one_way(behind: Behind, name: str) -> None:
    """As many requests as a strict reader finds; bodies are never taken for requests."""
    began = len(behind.seen())
    got, _ = exchange(behind.port, PROXIED[name], quiet=0.6)
    seen = [path for path, _ in behind.seen()[began:]]

    assert len(statuses(got.replace(b"HTTP/1.1 100 Continue", b""))) == len(seen) or name == "line feeds alone", got
    assert len(seen) <= 2
    assert 101 not in statuses(got)
    assert all(status < 500 for status in statuses(got)), got
    if "body" in name and "upgrade" not in name:
        assert "/smuggled" not in seen


@pytest.mark.parametrize("name", {**HIDING, **NONE, **PROXIED})
def test_proxies_and_the_gateway_read_the_same_requests(behind: Behind, fronts: dict[str, Front], name: str) -> None:
    """What the gateway sees is what the proxy meant to send, and the next caller gets the answer to its own request."""
    sent = {**HIDING, **NONE, **PROXIED}[name]
    began = len(behind.seen())

    def through(front: Front) -> None:
        got, _ = exchange(front.port, sent, quiet=0.15)
        path = f"/after/{front.name}/{next(AFTER)}"
        after, _ = exchange(front.port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", quiet=3)

        assert (statuses(after), path.encode() in after) == ([404], True), (front.name, after)
        assert (path, [path]) in behind.seen()
        assert not faults(got), (front.name, got)
        assert MARK.encode() not in got

    with ThreadPoolExecutor(len(fronts)) as pool:
        list(pool.map(through, fronts.values()))
    seen = [request for request in behind.seen()[began:] if request != ("/health", [])]

    assert all(marks in ([read], [f"http://y{read}"]) for read, marks in seen), seen


def faults(got: bytes) -> list[int]:
    """Give the answers that say that something broke: the gateway's, or a proxy's that waited for the gateway."""
    heads = re.findall(rb"HTTP/1\.[01] (5\d\d) (.*?)\r\n\r\n", got, re.DOTALL)
    return [int(status) for status, head in heads if b"x-request-id: req_" in head or status in (b"503", b"504")]


def test_an_extension_without_end_holds_no_connection(behind: Behind) -> None:
    """What stands behind a chunk's size is read by nobody, and for no longer than a body may take."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", behind.port), timeout=0.05) as connection:
        connection.sendall(post(CHUNKED, f"{SIZE};").encode())
        got = b""
        while time.monotonic() - began < 5:
            try:
                connection.sendall(b"a" * 10_000)
                if not (part := connection.recv(65_536)):
                    break
                got += part
            except TimeoutError:
                continue
            except ConnectionError:
                break

    assert statuses(got) in ([408], [400], [])
    assert time.monotonic() - began < 3


def test_trailers_are_no_headers(behind: Behind) -> None:
    """A key after the body opens nothing."""
    body = f"{SIZE}\r\n{BODY}\r\n0\r\n{AUTH}\r\n"
    got, _ = exchange(behind.port, post(CHUNKED, body).replace(AUTH, "", 1), quiet=0.5)

    assert statuses(got) == [401], got


def test_a_flood_of_trailers_does_not_end_the_gateway(behind: Behind) -> None:
    """It is refused or ignored."""
    trailers = "".join(f"X-{n}: y\r\n" for n in range(10_000))
    got, _ = exchange(behind.port, post(CHUNKED, f"{SIZE}\r\n{BODY}\r\n0\r\n{trailers}\r\n"), quiet=1)

    assert statuses(got) in ([200], [400], [])
    assert statuses(exchange(behind.port, GOOD)[0]) == [200]


GOOD = f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{AUTH}Connection: close\r\n\r\n"


@pytest.mark.parametrize("many", [20, 1_000])
def test_pipelined_requests_are_answered_one_by_one_in_order(behind: Behind, many: int) -> None:
    """Each gets its own answer, whatever their number."""
    paths = [f"/piped/{number}" for number in range(many)]
    sent = "".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths) + GOOD
    began = time.monotonic()
    got, closed = exchange(behind.port, sent, quiet=5)

    assert statuses(got) == [404] * many + [200]
    assert re.findall(r"/piped/\d+", got.decode()) == paths
    assert closed
    assert time.monotonic() - began < 10


def test_a_proxy_passes_on_pipelined_requests_in_order(front: Front) -> None:
    """Through every proxy as without one."""
    sent = "".join(f"GET /piped/{number} HTTP/1.1\r\nHost: x\r\n\r\n" for number in range(50)) + GOOD
    got, _ = exchange(front.port, sent, quiet=3)

    assert [int(found) for found in re.findall(r"/piped/(\d+)", got.decode())] == list(range(50))


def test_nothing_of_all_this_was_a_fault_or_wrote_a_secret(behind: Behind) -> None:
    """The log has a line each, by kind; no traceback, no key."""
    log = behind.log()

    assert "Traceback" not in log, log[-3_000:]
    assert "ERROR" not in log
    assert MARK not in log
    assert "smuggled" not in log
