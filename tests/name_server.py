"""A DNS server over UDP whose answers change from one question to the next, and which remembers what it was asked."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import cast

KINDS = {1: "A", 28: "AAAA"}
CNAME, NO_SUCH_NAME, NO_ERROR = 5, 3, 0
ANSWER, FAILURE = 0x8180, {"NXDOMAIN": NO_SUCH_NAME, "SERVFAIL": 2, "REFUSED": 5}

Answer = Sequence[str] | str
"""Addresses, a name among them being what the names before are another word for; or a failure; or ``silence``."""


class NameServer(asyncio.DatagramProtocol):
    """Answers questions written as ``A images.example.com``: each takes the next answer, and the last one stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[str] = []
        self.ttl = 0

    def teach(self, answers: Mapping[str, Sequence[Answer]], ttl: int) -> None:
        """Begin anew with other answers."""
        self.answers, self.ttl = {question: list(each) for question, each in answers.items()}, ttl
        self.asked.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        name, end = _read_name(data, 12)
        (kind,) = struct.unpack_from(">H", data, end)
        question = f"{KINDS.get(kind, kind)} {name.lower()}"
        self.asked.append(question)
        known = self.answers.get(question, [[]])
        answer = known.pop(0) if len(known) > 1 else known[0]
        if answer == "silence":
            return
        records = [] if isinstance(answer, str) else _records(answer, self.ttl)
        flags = ANSWER | (FAILURE[answer] if isinstance(answer, str) else NO_ERROR)
        head = struct.pack(">HHHHHH", int.from_bytes(data[:2], "big"), flags, 1, len(records), 0, 0)
        self.transport.sendto(head + data[12 : end + 4] + b"".join(records), address)


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    labels = []
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode("ascii"))
        at += length + 1
    return ".".join(labels), at + 1


def _write_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _records(texts: Sequence[str], ttl: int) -> list[bytes]:
    owner, records = b"\xc0\x0c", []  # the name of the question
    for text in texts:
        try:
            data = ip_address(text).packed
            kind = 1 if len(data) == 4 else 28
        except ValueError:
            kind, data = CNAME, _write_name(text)
        records.append(owner + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data)
        owner = data if kind == CNAME else owner
    return records
