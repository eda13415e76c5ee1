"""The guard refuses what is no plain URL to a public server, however it is spelled."""

import logging
import random
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from AntiSSRF.ipaddress_ranges import IPAddressRanges
from ssrfguard import DEFAULT_DENIED
from yarl import URL

from gateway import guard
from gateway.addresses import TABLE, describe, is_own, is_special
from gateway.errors import BadAddressError, BlockedAddressError
from gateway.guard import BLOCKED, Pinned, check_address, check_url, pinned_sockets
from gateway.settings import Fetch
from tests.guard_vectors import BLOCKED_ADDRESSES, CORPUS, GOOD, PUBLIC_ADDRESSES, REFUSED_AS_PRIVATE

PLAIN = Fetch()


@pytest.mark.parametrize("address", BLOCKED_ADDRESSES)
def test_special_address_is_blocked(address):
    """No address of a private, reserved or wrapped range may be connected to."""
    with pytest.raises(BlockedAddressError, match="does not fetch") as caught:
        check_address(address, 443, "pictures.example.com", PLAIN)

    assert caught.value.message == BLOCKED
    assert describe(ip_address(address)) != "public"


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_neighbour_of_a_special_range_is_free(address):
    """The ranges end exactly where IANA ends them."""
    check_address(address, 443, "pictures.example.com", PLAIN)

    assert describe(ip_address(address)) == "public"


def test_there_are_enough_vectors():
    """reliability.md asks for at least 120 different addresses."""
    assert len({*BLOCKED_ADDRESSES, *PUBLIC_ADDRESSES}) >= 120


def addresses_to_compare(chance: random.Random):
    """Yield 100 000 addresses: random ones, and both sides of every edge of our table and of both libraries'."""
    cidrs = [*IPAddressRanges.recommended_v1, *(str(block.network) for block in DEFAULT_DENIED.blocks)]
    networks = [ip_network(text) for text in (*cidrs, *(text for texts in TABLE.values() for text in texts))]
    for network in networks:
        make = type(network.network_address)
        for edge in (int(network[0]), int(network[-1])):
            yield from (make(value) for value in (edge - 1, edge, edge + 1) if 0 <= value < 2**network.max_prefixlen)
        for _ in range(100):
            yield make(int(network[0]) + chance.randrange(network.num_addresses))
    for _ in range(40_000):
        yield IPv4Address(chance.getrandbits(32))
    for _ in range(50_000):
        yield IPv6Address(chance.getrandbits(128) if chance.random() < 0.5 else (1 << 125) + chance.getrandbits(124))


def test_we_block_whenever_another_library_blocks():
    """Two independent tables are the oracle: what either refuses, we refuse."""
    microsoft = {4: [], 6: []}
    for text in IPAddressRanges.recommended_v1:
        network = ip_network(text)
        microsoft[network.version].append((int(network[0]), int(network[-1])))
    missed, count = [], 0
    for address in addresses_to_compare(random.Random(20261121)):
        count += 1
        if is_special(address):
            continue
        theirs = any(low <= int(address) <= high for low, high in microsoft[address.version])
        if theirs or DEFAULT_DENIED.classify(address).blocked:
            missed.append(str(address))

    assert count >= 100_000
    assert missed == []


def test_own_public_address_is_blocked():
    """An address of this very machine is refused although it is public."""
    with pytest.raises(BlockedAddressError):
        check_address("1.1.1.1", 443, "me.example.com", PLAIN, own=lambda address: True)


def test_kernel_knows_our_own_addresses():
    """Loopback is ours; an address of the documentation range is not."""
    assert is_own(IPv4Address("127.0.0.1"))
    assert not is_own(IPv4Address("203.0.113.7"))


@pytest.mark.parametrize("url", REFUSED_AS_PRIVATE)
def test_private_place_is_blocked_by_its_url(url):
    """Literals, private names and other ports are refused before DNS is asked, all with the same words."""
    with pytest.raises(BlockedAddressError) as caught:
        check_url(url, PLAIN)

    assert (caught.value.message, caught.value.status) == (BLOCKED, 403)


def test_the_corpus_is_large_enough():
    """reliability.md asks for at least 250 malformed URLs."""
    assert len(set(CORPUS)) >= 250


@pytest.mark.parametrize("url", CORPUS)
def test_what_is_no_plain_url_is_a_400(url):
    """Everything that two parsers could read in two ways is refused as malformed."""
    with pytest.raises(BadAddressError) as caught:
        check_url(url, PLAIN)

    assert caught.value.status == 400
    assert "example" not in caught.value.message


@pytest.mark.parametrize("url", GOOD)
def test_accepted_url_has_one_host_for_every_parser(url):
    """What is accepted names the same host to yarl, to urllib and to the one who connects."""
    checked = check_url(url, PLAIN)

    assert type(checked) is URL
    assert checked.raw_host == urlsplit(str(checked)).hostname == URL(str(checked)).raw_host
    assert checked.port in (80, 443)
    assert not checked.raw_fragment
    assert str(check_url(str(checked), PLAIN)) == str(checked)


def test_signed_query_is_kept_byte_for_byte():
    """A presigned URL stays what was signed: no escape is rewritten."""
    url = "https://bucket.example.com/a%2Fb%7Ec.png?X-Amz-Credential=a%2Fb&X-Amz-Signature=~%7e+%20%2B&empty="

    assert str(check_url(url, PLAIN)) == url


def test_homograph_is_told_apart():
    """A Cyrillic look-alike becomes its own punycode name, never the Latin one."""
    assert check_url("https://аpple.com/", PLAIN).raw_host == "xn--pple-43d.com"


def test_random_text_is_refused_or_canonical():
    """Whatever the text, the answer is a refusal of ours or a URL that every parser reads alike."""
    chance = random.Random(7)
    pieces = [
        *"http:/@#?.%[]\\1270axé\t ",
        "http://",
        "https://",
        "example.com",
        "127.0.0.1",
        "[::1]",
        "%40",
        "：",
        "@",
    ]
    for _ in range(20_000):
        text = "http://" * (chance.random() < 0.8) + "".join(chance.choices(pieces, k=chance.randint(1, 7)))
        try:
            checked = check_url(text, PLAIN)
        except BlockedAddressError:
            continue
        assert checked.raw_host == urlsplit(str(checked)).hostname, text
        assert checked.raw_host in ("example.com", "xn--9ca") or "." in checked.raw_host, text


ALLOWING = Fetch(allow=("127.0.0.1:9000", "minio.local:9001", "[::1]:9002", "Redis:80"))


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9000/a", "http://minio.local:9001/", "http://MINIO.local.:9001/", "http://[::1]:9002/", "http://redis/",
     "http://[0:0:0:0:0:0:0:1]:9002/"],
)  # fmt: skip
def test_allowed_pair_passes_the_url_check(url):
    """An entry of *allow* opens exactly its host and port, spelled in any usual way."""
    assert check_url(url, ALLOWING).scheme == "http"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9001/", "http://127.0.0.1/", "http://127.0.0.2:9000/", "http://minio.local:9000/", "http://minio.local/",
     "http://a.minio.local:9001/", "http://[::1]:9000/", "http://redis:81/", "http://evil.example.com:9000/",
     "http://[::ffff:127.0.0.1]:9000/"],
)  # fmt: skip
def test_nothing_beside_the_allowed_pair_passes(url):
    """Another port, another name or another spelling of the family stays shut."""
    with pytest.raises(BlockedAddressError):
        check_url(url, ALLOWING)


def test_name_allowed_is_not_its_address_allowed():
    """A stranger's name that resolves to the address of an allowed name is refused."""
    check_address("127.0.0.1", 9001, "minio.local", ALLOWING)

    with pytest.raises(BlockedAddressError):
        check_address("127.0.0.1", 9001, "evil.example.com", ALLOWING)


def test_address_allowed_is_allowed_under_any_name():
    """An address that is allowed as such may be reached by a name too."""
    check_address("127.0.0.1", 9000, "gpu.example.com", ALLOWING)


@pytest.mark.parametrize(
    "entry", ["", "host", "host:", ":80", "host:0", "host:65536", "host:x", "http://host:80", "::1:80", "a b:80"]
)
def test_malformed_allowance_stops_the_start(entry):
    """A pair that cannot match anything is an error of the configuration, not a silent nothing."""
    with pytest.raises(ValueError, match=r"host:port|IPv4 or IPv6"):
        Fetch(allow=(entry,))


async def test_resolver_answers_only_what_was_checked():
    """The connector gets the checked addresses and never asks DNS again."""
    answers = await Pinned((IPv4Address("1.1.1.1"), IPv6Address("2606:4700::1"))).resolve("any.example.com", 443)

    assert [(answer["host"], answer["family"]) for answer in answers] == [
        ("1.1.1.1", socket.AF_INET),
        ("2606:4700::1", socket.AF_INET6),
    ]


@pytest.mark.parametrize("target", [("127.0.0.1", 443), ("1.1.1.2", 443), ("1.1.1.1", 80), ("::1", 443, 0, 0)])
def test_no_socket_is_made_for_another_address(target):
    """Whatever the resolver or the library did, only the checked address and port get a socket."""
    make = pinned_sockets((IPv4Address("1.1.1.1"),), 443)

    with pytest.raises(BlockedAddressError):
        make((socket.AF_INET, socket.SOCK_STREAM, 0, "", target))


def test_the_reason_is_logged_but_never_the_query(caplog):
    """The operator learns why and where; tokens stay out of the log."""
    with caplog.at_level(logging.INFO, "gateway.guard"), pytest.raises(BlockedAddressError):
        check_url("http://169.254.169.254/token?secret=hunter2", PLAIN)

    assert "169.254.169.254 port 80: cloud metadata" in caplog.text
    assert "hunter2" not in caplog.text


def test_urls_are_parsed_in_one_place_only():
    """No second parser reads a URL that the guard has passed: only yarl does, and its object is what is requested."""
    floor = Path(guard.__file__).parent
    texts = [(floor / name).read_text() for name in ("guard.py", "fetch.py", "addresses.py")]

    assert not any(
        other in text for text in texts for other in ("urlparse", "urlsplit", "urllib3", "inet_aton", "is_global")
    )
