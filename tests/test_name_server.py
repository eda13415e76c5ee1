"""A gateway that asks a real name server, over UDP, connects only where the answer that it checked leads.

Every test sees all three ways: the image proxy, a URL that an image API answers, and an input picture.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.guard_vectors import PUBLIC_ADDRESSES
from tests.needs import lacking
from tests.own_network import OWN, Lab, Seen

NAME = "images.example.com"
URL = f"http://{NAME}/a.png"
PUBLIC, OTHER, PRIVATE = "93.184.216.34", "93.184.216.35", "10.0.0.9"
PUBLIC_6, PRIVATE_6 = "2606:4700:4700::1111", "fd00::9"
A, AAAA = f"A {NAME}", f"AAAA {NAME}"
ONCE = [A, AAAA]
"""The questions of one look-up."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A network of its own; it needs root, or a system that gives user namespaces."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        lacking("unshare of util-linux and ip of iproute2")
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        if lab.trouble:
            lacking(f"a network and mounts of its own, as root or by user namespaces: {lab.trouble}")
        yield lab
    finally:
        lab.close()


@pytest.mark.parametrize("ttl", [0, 3600])
@pytest.mark.parametrize("later", [PRIVATE, "127.0.0.1", "169.254.169.254", OTHER])
def test_an_answer_that_changes_changes_nothing(lab: Lab, ttl: int, later: str) -> None:
    """Public first and private after: one look-up, and the connection goes to the address that was checked."""
    seen = lab.ask(URL, {A: [[PUBLIC], [later]], AAAA: [[], []]}, ttl)

    assert seen == [Seen("shown", ONCE, [PUBLIC])] * 3


@pytest.mark.parametrize("ttl", [0, 3600])
def test_nothing_is_remembered_from_one_fetch_to_the_next(lab: Lab, ttl: int) -> None:
    """Who is public once is not let in for ever: each hop looks the name up and meets the answer of now."""
    seen = lab.ask(f"http://{NAME}/r", {A: [[PUBLIC], [PRIVATE], [PUBLIC]], AAAA: [[]]}, ttl)

    assert seen == [Seen("blocked", sorted(ONCE * 2), [PUBLIC])] * 3


@pytest.mark.parametrize(
    ("four", "six"),
    [
        ([PRIVATE], []),
        ([PUBLIC, PRIVATE], []),
        ([PRIVATE, PUBLIC], []),
        ([PUBLIC, OTHER, "100.64.0.1"], [PUBLIC_6]),
        ([PUBLIC], [PRIVATE_6]),
        ([PUBLIC], [PUBLIC_6, PRIVATE_6]),
        ([PUBLIC], ["::1"]),
        ([PUBLIC], ["::ffff:127.0.0.1"]),
        ([PUBLIC], ["64:ff9b::a00:9"]),
        ([], [PRIVATE_6]),
        ([PRIVATE], [PUBLIC_6]),
        (["inside.example.net", PRIVATE], []),
        (["a.example.net", "b.example.net", PUBLIC, "127.0.0.1"], []),
        (["localhost", "127.0.0.1"], ["localhost", "::1"]),
        ([OWN], []),
    ],
)
def test_one_address_out_of_bounds_condemns_the_answer(lab: Lab, four: list[str], six: list[str]) -> None:
    """Private beside public, in either family, behind other names, or this machine's own: nobody is knocked at."""
    assert lab.ask(URL, {A: [four], AAAA: [six]}) == [Seen("blocked", ONCE, [])] * 3


@pytest.mark.parametrize(("four", "six"), [([PUBLIC], []), ([], [PUBLIC_6]), (["cdn.example.net", PUBLIC], [])])
def test_a_public_answer_is_followed(lab: Lab, four: list[str], six: list[str]) -> None:
    """The one address is where the gateway goes, in either family and behind another name."""
    assert lab.ask(URL, {A: [four], AAAA: [six]}) == [Seen("shown", ONCE, [(four + six)[-1]])] * 3


def test_either_family_may_be_taken(lab: Lab) -> None:
    """Of two public addresses one is connected to, and never another."""
    seen = lab.ask(URL, {A: [[PUBLIC], [PRIVATE]], AAAA: [[PUBLIC_6], [PRIVATE_6]]})

    assert {each.said for each in seen} == {"shown"}
    assert all(each.asked == ONCE and each.connected in ([PUBLIC], [PUBLIC_6]) for each in seen)


@pytest.mark.parametrize("failure", ["NXDOMAIN", "SERVFAIL", "REFUSED"])
def test_a_name_without_an_answer_is_told(lab: Lab, failure: str) -> None:
    """The place is named, and nobody is knocked at."""
    seen = lab.ask(URL, {A: [failure], AAAA: [failure]})

    assert {each.said for each in seen} == {f"{URL}: the name cannot be resolved"}
    assert not any(each.connected for each in seen)


def test_a_name_server_that_is_silent_costs_the_deadline(lab: Lab) -> None:
    """A question without an answer ends with the fetch, whatever the system's own patience is."""
    seen = lab.ask(URL, {A: ["silence"], AAAA: ["silence"]})

    assert {each.said for each in seen} == {f"{URL}: no answer within 1 s"}
    assert not any(each.connected for each in seen)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_neighbours_of_special_ranges_are_reached(lab: Lab, address: str) -> None:
    """Each address just outside a range is connected to itself, as a literal; no name is asked for."""
    literal = f"[{address}]" if ":" in address else address

    assert lab.ask(f"http://{literal}/", {}) == [Seen("shown", [], [address])] * 3


def test_this_machines_own_address_is_not_reached(lab: Lab) -> None:
    """A public address that is our own is blocked as a literal, too."""
    assert lab.ask(f"http://{OWN}/", {}) == [Seen("blocked", [], [])] * 3
