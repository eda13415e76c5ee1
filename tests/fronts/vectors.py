"""Torn, doubled and oversized requests, as bytes: those that hide a second one, and those that are none."""

from __future__ import annotations

from tests.canaries import CALLER_KEY

AUTH = f"Authorization: Bearer {CALLER_KEY}\r\n"
JSON = "Content-Type: application/json\r\n"
BODY = '{"prompt":"a fox"}'
SIZE = f"{len(BODY):x}"
CHUNKED = "Transfer-Encoding: chunked\r\n"
LENGTH = f"Content-Length: {len(BODY)}\r\n"
SMUGGLED = f"GET /smuggled HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n"
WHOLE = f"{SIZE}\r\n{BODY}\r\n0\r\n\r\n"


def post(headers: str, body: str = BODY, path: str = "/v1/images/generations", after: str = "") -> str:
    """Write a POST with these headers after our own; *after* stands between its first line and Host."""
    return f"POST {path} HTTP/1.1\r\n{after}Host: x\r\n{AUTH}{JSON}{headers}\r\n{body}"


UPGRADE = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade:"
LENGTHS = {
    "CL and TE": post(f"Content-Length: 5\r\n{CHUNKED}", "0\r\n\r\n" + SMUGGLED),
    "TE and CL": post(f"{CHUNKED}Content-Length: 4\r\n", "1\r\nx\r\n0\r\n\r\n" + SMUGGLED),
    "two lengths": post(f"{LENGTH}Content-Length: {len(BODY) + len(SMUGGLED)}\r\n", BODY + SMUGGLED),
    "two equal lengths": post(LENGTH * 2, BODY + SMUGGLED),
    "length list": post("Content-Length: 18, 18\r\n", BODY + SMUGGLED),
    "plus length": post("Content-Length: +18\r\n", BODY + SMUGGLED),
    "minus length": post("Content-Length: -1\r\n", BODY + SMUGGLED),
    "hex length": post("Content-Length: 0x12\r\n", BODY + SMUGGLED),
    "underscore length": post("Content-Length: 1_8\r\n", BODY + SMUGGLED),
    "wordy length": post("Content-Length: eighteen\r\n", BODY + SMUGGLED),
    "half wordy length": post("Content-Length: 18abc\r\n", BODY + SMUGGLED),
    "length with a point": post("Content-Length: 18.0\r\n", BODY + SMUGGLED),
    "length with a power": post("Content-Length: 1e1\r\n", BODY + SMUGGLED),
    "length in two words": post("Content-Length: 1 8\r\n", BODY + SMUGGLED),
    "length in other digits": post("Content-Length: \xb9\xb8\r\n", BODY + SMUGGLED),
    "empty length": post("Content-Length:\r\n", BODY + SMUGGLED),
    "huge length": post(f"Content-Length: {'9' * 400}\r\n", BODY + SMUGGLED),
    "length beyond 64 bits": post(f"Content-Length: {2**64 + 18}\r\n", BODY + SMUGGLED),
    "length with space before colon": post("Content-Length : 18\r\n", BODY + SMUGGLED),
    "length with tab before colon": post("Content-Length\t: 18\r\n", BODY + SMUGGLED),
    "length after a vertical tab": post("Content-Length:\x0b18\r\n", BODY + SMUGGLED),
    "folded length": post("Content-Length:\r\n 18\r\n", BODY + SMUGGLED),
}
ENCODINGS = {
    "xchunked": post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n" + SMUGGLED),
    "chunked, identity": post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n" + SMUGGLED),
    "identity": post("Transfer-Encoding: identity\r\n", BODY + SMUGGLED),
    "two encodings": post(f"{CHUNKED}Transfer-Encoding: identity\r\n", "0\r\n\r\n" + SMUGGLED),
    "chunked twice": post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n" + SMUGGLED),
    "chunked in quotes": post('Transfer-Encoding: "chunked"\r\n', "0\r\n\r\n" + SMUGGLED),
    "chunked with a parameter": post("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n" + SMUGGLED),
    "chunked after a vertical tab": post("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n" + SMUGGLED),
    "chunked with NUL": post("Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n" + SMUGGLED),
    "chunked and CR": post("Transfer-Encoding: chunked\r\r\n", "0\r\n\r\n" + SMUGGLED),
    "encoding with space before colon": post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n" + SMUGGLED),
    "encoding after a space": post(f"{LENGTH} Transfer-Encoding: chunked\r\n", BODY + SMUGGLED),
    "encoding after a bare LF": post(f"X: y\n{CHUNKED}{LENGTH}", "0\r\n\r\n" + SMUGGLED),
    "encoding after a bare CR": post(f"X: y\r{CHUNKED}{LENGTH}", BODY + SMUGGLED),
    "folded encoding": post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n" + SMUGGLED),
    "unknown encoding before chunked": post("Transfer-Encoding: nothing, chunked\r\n", "0\r\n\r\n" + SMUGGLED),
    "gzip before chunked": post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n" + SMUGGLED),
    "chunked before gzip": post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n" + SMUGGLED),
    "chunked and nothing": post("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n" + SMUGGLED),
    "nothing and chunked": post("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n" + SMUGGLED),
    "an encoding of a GET": "GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nothing, chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunked in HTTP/1.0": post(CHUNKED + LENGTH, "0\r\n\r\n" + SMUGGLED).replace("HTTP/1.1", "HTTP/1.0", 1),
    "CL and TE of a GET": f"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n{CHUNKED}\r\n0\r\n\r\n" + SMUGGLED,
}
HEADERS = {
    "folded header": post(f"{LENGTH}X: a\r\n b\r\n", BODY + SMUGGLED),
    "bare CR": post("Content-Length: 18\rX: y\r\n", BODY + SMUGGLED),
    "CR in value": post(f"X: a\rb\r\n{LENGTH}", BODY + SMUGGLED),
    "NUL in value": post(f"X: a\0b\r\n{LENGTH}", BODY + SMUGGLED),
    "control character in value": post(f"X: a\x08b\r\n{LENGTH}", BODY + SMUGGLED),
    "NUL in name": post(f"X\0: a\r\n{LENGTH}", BODY + SMUGGLED),
    "high byte in name": post(f"X\xff: a\r\n{LENGTH}", BODY + SMUGGLED),
    "space in name": post(f"X Y: a\r\n{LENGTH}", BODY + SMUGGLED),
    "bracket in name": post(f"(X): a\r\n{LENGTH}", BODY + SMUGGLED),
    "empty name": post(f": a\r\n{LENGTH}", BODY + SMUGGLED),
    "no colon": post(f"nothing\r\n{LENGTH}", BODY + SMUGGLED),
    "two hosts": post(f"Host: y\r\n{LENGTH}", BODY + SMUGGLED),
    "two equal hosts": post(f"Host: x\r\n{LENGTH}", BODY + SMUGGLED),
    "space before the first header": post(LENGTH, BODY + SMUGGLED, after=" X: y\r\n"),
    "a bare CR ends the head": post(f"{LENGTH}\r", BODY + SMUGGLED),
}
CHUNKS = {
    "hex chunk with 0x": post(CHUNKED, f"0x{SIZE}\r\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "negative chunk": post(CHUNKED, "-1\r\nx\r\n0\r\n\r\n" + SMUGGLED),
    "plus chunk": post(CHUNKED, "+" + WHOLE + SMUGGLED),
    "huge chunk": post(CHUNKED, "f" * 40 + "\r\n" + BODY + SMUGGLED),
    "chunk beyond 64 bits": post(CHUNKED, f"1{'0' * 14}{WHOLE}" + SMUGGLED),
    "chunk of 64 ones": post(CHUNKED, f"{'f' * 16}\r\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "wordy chunk": post(CHUNKED, f"zz\r\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "empty chunk size": post(CHUNKED, f"\r\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "chunk with spaces": post(CHUNKED, f" {SIZE} \r\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "chunk size in two words": post(CHUNKED, f"1 2\r\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "chunk with NUL": post(CHUNKED, f"{SIZE}\0\r\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "chunk longer than said": post(CHUNKED, f"3\r\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "chunk without its end": post(CHUNKED, f"{SIZE}\r\n{BODY}XX0\r\n\r\n" + SMUGGLED),
    "chunk shorter than said": post(CHUNKED, f"fff\r\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "line feeds in chunks": post(CHUNKED, f"{SIZE}\n{BODY}\n0\n\n" + SMUGGLED),
    "line feed in an extension": post(CHUNKED, f"{SIZE};a\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "bare CR in an extension": post(CHUNKED, f"{SIZE};a\rb\r\n{BODY}\r\n0\r\n\r\n" + SMUGGLED),
    "a request for a trailer": post(CHUNKED, f"{SIZE}\r\n{BODY}\r\n0\r\n" + SMUGGLED),
    "folded trailer": post(CHUNKED, f"{SIZE}\r\n{BODY}\r\n0\r\nX: a\r\n b\r\n\r\n" + SMUGGLED),
}
HIDING = {**LENGTHS, **ENCODINGS, **HEADERS, **CHUNKS}
"""What frames itself in two ways, with a second request where somebody might look for one."""

NONE = {
    "HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": "GET /v1/models\r\n\r\n",
    "HTTP/2.0 in words": "GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/1.2": "GET /health HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/3.7": "GET / HTTP/3.7\r\nHost: x\r\n\r\n",
    "HTTP/1.10": "GET / HTTP/1.10\r\nHost: x\r\n\r\n",
    "HTTP/01.1": "GET / HTTP/01.1\r\nHost: x\r\n\r\n",
    "lower-case version": "GET / http/1.1\r\nHost: x\r\n\r\n",
    "a word after the version": "GET / HTTP/1.1 x\r\nHost: x\r\n\r\n",
    "no Host": "GET /v1/models HTTP/1.1\r\n\r\n",
    "an unknown method": "BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method with a bracket": "GE(T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in path": "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "control character in path": "GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in path": "GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
    "an address with half a bracket": "GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "9 KB path": f"GET /{'a' * 9_000} HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": f"GET / HTTP/1.1\r\nHost: x\r\nX: {'a' * 9_000}\r\n\r\n",
    "a header of 8 KB": f"GET / HTTP/1.1\r\nHost: x\r\nX: {'a' * 8_191}\r\n\r\n",
    "a long name": f"GET / HTTP/1.1\r\nHost: x\r\n{'X' * 9_000}: a\r\n\r\n",
    "129 headers": "GET / HTTP/1.1\r\n" + "".join(f"X-{n}: y\r\n" for n in range(129)) + "\r\n",
    "10,000 cookies": "GET / HTTP/1.1\r\nHost: x\r\n" + "Cookie: a=b\r\n" * 10_000 + "\r\n",
    "10,000 cookies in one": f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {'a=b; ' * 10_000}\r\n\r\n",
    "noise": "\x00\x01\x02\x03 nothing\r\n\r\n",
    "a client hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 500,
    "only line ends": "\r\n" * 1_000 + "x\r\n\r\n",
}
"""What is no request, or too much of one."""

HOP = "Connection: Content-Length\r\n"
PROXIED = {
    "a length for one hop": post(HOP + LENGTH, BODY),
    "an encoding for one hop": post(f"Connection: Transfer-Encoding\r\n{CHUNKED}", WHOLE),
    "upgrade to h2c": f"{UPGRADE} h2c\r\n\r\n{SMUGGLED}",
    "upgrade to websocket": f"{UPGRADE} websocket\r\n\r\n{SMUGGLED}",
    "a body after an upgrade": post(f"Connection: Upgrade\r\nUpgrade: websocket\r\n{LENGTH}", BODY + SMUGGLED),
    "an absolute address": "GET http://y/v1/models HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "a GET with a body": f"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}",
    "a HEAD with a body": f"HEAD /health HTTP/1.1\r\nHost: x\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}",
    "a body nobody reads": post(f"Content-Length: {len(SMUGGLED)}\r\n", SMUGGLED, "/nowhere"),
    "a body without a key": post(f"Content-Length: {len(SMUGGLED)}\r\n", SMUGGLED).replace("Bearer", "Nobody", 1),
    "a body that is expected": post(f"Expect: 100-continue\r\nContent-Length: {len(SMUGGLED)}\r\n", SMUGGLED),
    "an expectation nobody knows": post(f"Expect: nothing\r\nContent-Length: {len(SMUGGLED)}\r\n", SMUGGLED),
    "a chunked body nobody reads": post(CHUNKED, f"{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n0\r\n\r\n", "/nowhere"),
    "a body too large": post("Content-Length: 70000\r\n", SMUGGLED * 600),
    "line feeds alone": post(LENGTH, BODY + SMUGGLED).replace("\r\n", "\n"),
    "an underscored encoding": post(f"{LENGTH}Transfer_Encoding: chunked\r\n", BODY + SMUGGLED),
}
"""What is a proper request, or nearly so, and has led proxies and servers apart."""
