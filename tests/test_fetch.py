"""The fetcher takes from a hostile host what was asked for and allowed, and nothing else."""

import asyncio
import gzip
import socket
import time

import aiohttp
import pytest
from yarl import URL

from gateway.addresses import parse_addresses
from gateway.errors import (
    BlockedAddressError,
    BrokenAnswerError,
    GatewayError,
    UnreachableError,
    UpstreamTimeoutError,
)
from gateway.fetch import Fetcher, next_hop, place
from gateway.guard import BLOCKED, Pinned, pinned_sockets
from gateway.settings import Fetch
from tests.rude_answers import BROKEN_ANSWERS, ENCODINGS, LOCATIONS, OVER_4999_BYTES
from tests.rude_host import RudeHost, redirect, reply

NAME = "images.example.com"


class Names:
    """A resolver whose answers change: every question takes the next answer, the last one stays."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): list(values) for name, values in answers.items()}
        self.asked = []

    async def __call__(self, host, port):
        self.asked.append(host)
        answers = self.answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


def fetcher_for(host, *, names=None, allow=None, **settings):
    """Make a fetcher that may reach *host* by address, and every name at the host's port."""
    allow = (host.pair,) if allow is None else allow
    limits = {"per_host": 4, "total": 8}
    return Fetcher(
        Fetch(allow=allow, ports=(80, 443, host.port), **{"timeout": 5, **settings}), lookup=names or Names(), **limits
    )


async def test_picture_is_fetched_with_a_bare_request():
    """Nothing about us goes out: no cookie, no credentials, no compression asked for."""
    async with RudeHost({"/a.png?x=%2B": reply(b"picture")}) as host, fetcher_for(host) as fetcher:
        assert await fetcher.fetch(f"{host.url}/a.png?x=%2B#part") == b"picture"

    head = host.heads[0].lower()
    assert "accept-encoding: identity" in head
    assert not any(word in head for word in ("cookie", "authorization", "referer", "x-forwarded"))


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0", "[::1]", "[::]", "127.0.0.2"]
)
async def test_no_packet_goes_to_a_private_address(name):
    """An open port of this machine is refused before anything is sent to it."""
    async with RudeHost() as host, fetcher_for(host, allow=()) as fetcher:
        with pytest.raises(BlockedAddressError):
            await fetcher.fetch(f"http://{name}:{host.port}/")

    assert host.heads == []


@pytest.mark.parametrize(
    "answer",
    [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["127.0.0.1", "93.184.216.34"], ["2606:4700::1", "10.0.0.1"],
     ["fe80::1%lo", "93.184.216.34"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["169.254.169.254"]],
)  # fmt: skip
async def test_one_private_answer_condemns_the_name(answer):
    """A name that also has a private address is refused as a whole, and nothing is connected."""
    names = Names(images_example_com=[answer])
    async with RudeHost() as host, fetcher_for(host, names=names, allow=()) as fetcher:
        with pytest.raises(BlockedAddressError):
            await fetcher.fetch(f"http://{NAME}:{host.port}/")

    assert host.heads == []


async def test_changing_dns_answer_changes_nothing():
    """The name is resolved once; the address that was checked is the one connected to."""
    names = Names(images_example_com=[["127.0.0.1"], ["127.0.0.2"], ["10.0.0.1"]])
    async with RudeHost({"/": reply(b"picture")}) as host, fetcher_for(host, names=names) as fetcher:
        assert await fetcher.fetch(f"http://{NAME}:{host.port}/") == b"picture"

    assert names.asked == [NAME]
    assert f"Host: {NAME}:{host.port}" in host.heads[0]


async def test_next_hop_is_resolved_and_checked_anew():
    """A redirect to the same name meets the new, private answer, and is refused."""
    names = Names(images_example_com=[["127.0.0.1"], ["127.0.0.2"]])
    async with RudeHost({"/": redirect("/again")}) as host, fetcher_for(host, names=names) as fetcher:
        with pytest.raises(BlockedAddressError):
            await fetcher.fetch(f"http://{NAME}:{host.port}/")

    assert host.paths == ["/"]


async def test_allowance_of_a_name_is_not_lent_to_another():
    """Two names with one address, asked at the same time: the one that is allowed passes, the other never."""
    names = Names(minio_local=[["127.0.0.1"]], evil_example_com=[["127.0.0.1"]])
    async with RudeHost({"/": reply(b"picture")}) as host:
        fetcher = fetcher_for(host, names=names, allow=(f"minio.local:{host.port}",))
        urls = [f"http://{name}:{host.port}/" for name in ("minio.local", "evil.example.com") * 4]
        results = await asyncio.gather(*(fetcher.fetch(url) for url in urls), return_exceptions=True)

    assert results[0::2] == [b"picture"] * 4
    assert all(isinstance(result, BlockedAddressError) for result in results[1::2])


async def test_library_still_asks_the_guard_for_literals():
    """aiohttp skips resolvers for literal addresses; the socket factory is what it cannot skip."""
    pinned = parse_addresses(["93.184.216.34"])
    async with RudeHost() as host:
        connector = aiohttp.TCPConnector(resolver=Pinned(pinned), socket_factory=pinned_sockets(pinned, host.port))
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(BlockedAddressError):
                await session.get(host.url)

    assert host.heads == []


async def test_library_that_resolves_by_itself_gets_no_socket(monkeypatch):
    """Should a later aiohttp no longer ask our resolver, the fetch fails instead of going elsewhere."""

    async def resolve(self, host, port, traces=None):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 0, "proto": 0, "flags": 0}]

    monkeypatch.setattr(aiohttp.TCPConnector, "_resolve_host", resolve)
    names = Names(images_example_com=[["93.184.216.34"]])
    async with RudeHost({"/": reply(b"picture")}) as host, fetcher_for(host, names=names, allow=()) as fetcher:
        with pytest.raises(BlockedAddressError):
            await fetcher.fetch(f"http://{NAME}:{host.port}/")

    assert host.heads == []


@pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
async def test_three_redirects_are_followed_without_cookies(status):
    """Relative, absolute and scheme-relative hops work; a cookie set on the way is not sent on."""
    async with RudeHost() as host, fetcher_for(host) as fetcher:
        host.answers = {
            "/1": redirect("2?x=%2B", status, Set_Cookie="a=b; Path=/"),
            "/2?x=%2B": redirect(f"//{host.pair}/3", status),
            "/3": redirect(f"{host.url}/4#part", status),
            "/4": reply(b"picture"),
        }
        assert await fetcher.fetch(f"{host.url}/1") == b"picture"

    assert host.paths == ["/1", "/2?x=%2B", "/3", "/4"]
    assert "cookie" not in "".join(host.heads).lower()


async def test_fourth_redirect_is_one_too_many():
    """A chain or a circle ends after three hops."""
    async with RudeHost({"/": redirect("/")}) as host, fetcher_for(host) as fetcher:
        with pytest.raises(BrokenAnswerError, match="more than 3 redirects"):
            await fetcher.fetch(f"{host.url}/")

    assert len(host.heads) == 4


@pytest.mark.parametrize("location", LOCATIONS)
async def test_redirect_out_of_bounds_is_not_followed(location):
    """Every hop passes the same check as the first URL."""
    names = Names(images_example_com=[["127.0.0.1"]], private_example_com=[["10.0.0.1"]])
    async with RudeHost({"/": redirect(location)}) as host, fetcher_for(host, names=names) as fetcher:
        with pytest.raises((BlockedAddressError, BrokenAnswerError)):
            await fetcher.fetch(f"{host.url}/")

    assert host.paths == ["/"]


async def test_redirect_without_a_target_is_a_broken_answer():
    """A redirect to nowhere is the host's fault."""
    async with RudeHost({"/": reply(status="302 Found")}) as host, fetcher_for(host) as fetcher:
        with pytest.raises(BrokenAnswerError, match="nowhere"):
            await fetcher.fetch(f"{host.url}/")


def test_no_way_down_from_https():
    """A redirect may go up to https, never down."""
    secure, plain = URL("https://images.example.com/a"), URL("http://images.example.com/a")

    assert next_hop(plain, "https://images.example.com/b", Fetch()) == URL("https://images.example.com/b")
    assert next_hop(secure, "../b?c=%2B", Fetch()) == URL("https://images.example.com/b?c=%2B", encoded=True)
    with pytest.raises(BlockedAddressError):
        next_hop(secure, "http://images.example.com/b", Fetch())


async def test_permit_rules_over_redirects_too():
    """A rule of the caller's holds for every hop, so an open redirect cannot leave its list."""
    async with RudeHost({"/in": redirect("/out"), "/out": reply(b"picture")}) as host, fetcher_for(host) as fetcher:
        with pytest.raises(BlockedAddressError):
            await fetcher.fetch(f"{host.url}/in", permit=lambda url: url.path == "/in")

    assert host.paths == ["/in"]


@pytest.mark.parametrize("answer", OVER_4999_BYTES)
async def test_body_over_the_limit_is_refused(answer):
    """With an honest length, a lying one or none: more than the limit never comes back."""
    async with RudeHost({"/": answer}) as host, fetcher_for(host, limit=4999) as fetcher:
        with pytest.raises(BrokenAnswerError, match="more than 4999 bytes"):
            await fetcher.fetch(f"{host.url}/")


async def test_limit_itself_is_allowed():
    """Exactly the limit passes, and a call may set its own."""
    async with RudeHost({"/": reply(b"x" * 5000)}) as host, fetcher_for(host, limit=1) as fetcher:
        assert len(await fetcher.fetch(f"{host.url}/", limit=5000)) == 5000


async def test_endless_body_is_cut_soon_after_the_limit():
    """The connection is closed at the limit; what the host got rid of is the limit and the buffers on the way."""
    async with RudeHost() as host, fetcher_for(host, limit=2**20) as fetcher:
        host.answers["/"] = host.endless
        with pytest.raises(BrokenAnswerError, match="more than"):
            await fetcher.fetch(f"{host.url}/")
        await asyncio.wait_for(host.idle.wait(), 5)

    assert host.sent < 2**20 + 8 * 2**20  # the kernel's two socket buffers take the most of it


@pytest.mark.parametrize("answer", BROKEN_ANSWERS)
async def test_broken_answer_is_told_as_such(answer):
    """What is not a whole 200 answer is the host's fault, whatever it is, and never a crash of ours."""
    async with RudeHost({"/a?token=hunter2": answer}) as host, fetcher_for(host) as fetcher:
        with pytest.raises(BrokenAnswerError) as caught:
            await fetcher.fetch(f"{host.url}/a?token=hunter2")

    assert "hunter2" not in caught.value.message
    assert f"{host.url}/a" in caught.value.message


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_compressed_answer_is_refused_unread(encoding):
    """Nobody asked for compression, so a bomb is not even unpacked."""
    bomb = gzip.compress(b"\0" * 10**7)
    async with RudeHost({"/": reply(bomb, Content_Encoding=encoding)}) as host, fetcher_for(host) as fetcher:
        with pytest.raises(BrokenAnswerError, match="compressed"):
            await fetcher.fetch(f"{host.url}/")


@pytest.mark.parametrize("fault", ["forever", "drip", "drip_headers"])
async def test_deadline_holds_against_every_kind_of_slowness(fault):
    """A silent host, a drip of body and a drip of headers all end at the same total deadline."""
    async with RudeHost() as host, fetcher_for(host, timeout=0.3) as fetcher:
        host.answers["/?token=hunter2"] = getattr(host, fault)
        begun = time.monotonic()
        with pytest.raises(UpstreamTimeoutError, match=r"0\.3 s") as caught:
            await fetcher.fetch(f"{host.url}/?token=hunter2")

    assert 0.25 < time.monotonic() - begun < 2
    assert "hunter2" not in caught.value.message


async def test_stalled_handshake_ends_at_the_deadline():
    """A port that speaks no TLS, and then nothing, costs no more than the deadline."""
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    with silent:
        async with Fetcher(Fetch(allow=(f"127.0.0.1:{port}",), timeout=0.3)) as fetcher:
            with pytest.raises(UpstreamTimeoutError):
                await fetcher.fetch(f"https://127.0.0.1:{port}/")


async def test_connect_into_nowhere_ends_at_the_deadline():
    """A host that takes no connections, and does not refuse them either, costs no more than the deadline."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = full.getsockname()[1]
    # Once the queue of the port is full, the kernel drops whoever comes without a word.
    crowd = [socket.socket() for _ in range(4)]
    for each in crowd:
        each.setblocking(False)
        each.connect_ex(("127.0.0.1", port))
    try:
        async with Fetcher(Fetch(allow=(f"127.0.0.1:{port}",), timeout=0.3)) as fetcher:
            begun = time.monotonic()
            with pytest.raises(UpstreamTimeoutError):
                await fetcher.fetch(f"http://127.0.0.1:{port}/")
    finally:
        for each in (full, *crowd):
            each.close()

    assert time.monotonic() - begun < 2


async def test_stalled_dns_ends_at_the_deadline():
    """A name server that never answers costs no more than the deadline."""
    never = asyncio.Event()

    async def stalled(host, port):
        await never.wait()

    with pytest.raises(UpstreamTimeoutError):
        await Fetcher(Fetch(timeout=0.2), lookup=stalled).fetch(f"http://{NAME}/")


async def test_redirects_share_one_deadline():
    """Three slow hops do not get three times the time."""
    async with RudeHost() as host, fetcher_for(host, timeout=0.4) as fetcher:

        async def slow(writer):
            await asyncio.wait([asyncio.ensure_future(host.hold.wait())], timeout=0.25)
            writer.write(redirect("/"))

        host.answers["/"] = slow
        with pytest.raises(UpstreamTimeoutError):
            await fetcher.fetch(f"{host.url}/")

    assert len(host.heads) == 2


async def test_closed_port_and_unknown_name_are_unreachable():
    """Nothing was sent, so it says that another try costs nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with Fetcher(Fetch(allow=(f"127.0.0.1:{port}",)), lookup=Names()) as fetcher:
        with pytest.raises(UnreachableError, match="no connection") as closed:
            await fetcher.fetch(f"http://127.0.0.1:{port}/?token=hunter2")
        with pytest.raises(UnreachableError, match="cannot be resolved"):
            await fetcher.fetch(f"http://{NAME}/?token=hunter2")

    assert (closed.value.sent, closed.value.retryable) == (False, True)
    assert "hunter2" not in closed.value.message


async def test_blocked_address_is_no_oracle():
    """An open port, a closed one, a private name and a redirect to one cannot be told apart by words or status."""
    names = Names(images_example_com=[["10.0.0.1"]])
    async with RudeHost({"/": redirect("http://127.0.0.1:22/")}) as host, fetcher_for(host, names=names) as fetcher:
        urls = [
            f"http://127.0.0.2:{host.port}/",
            "http://127.0.0.1:1/",
            f"http://{NAME}/",
            f"{host.url}/",
            "http://intranet/",
        ]
        errors = await asyncio.gather(*(fetcher.fetch(url) for url in urls), return_exceptions=True)

    assert {(type(error), error.message, error.status, error.code) for error in errors} == {
        (BlockedAddressError, BLOCKED, 403, "blocked_address")
    }


async def test_own_public_address_is_refused():
    """A name that leads back to this machine's public address is refused."""
    fetcher = Fetcher(Fetch(), lookup=Names(images_example_com=[["93.184.216.34"]]), own=lambda address: True)

    with pytest.raises(BlockedAddressError):
        await fetcher.fetch(f"http://{NAME}/")


async def test_proxy_of_the_environment_is_not_used(monkeypatch):
    """A proxy would connect where the guard cannot see."""
    async with RudeHost({"/": reply(b"proxy")}) as proxy, RudeHost({"/": reply(b"picture")}) as host:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with fetcher_for(host) as fetcher:
            assert await fetcher.fetch(f"{host.url}/") == b"picture"

    assert proxy.heads == []


async def test_slow_host_fills_only_its_own_places():
    """Two hundred calls to a host that hangs leave another host as quick as ever."""
    async with RudeHost() as slow, RudeHost({"/": reply(b"picture")}) as host:
        slow.answers["/"] = slow.forever
        settings = Fetch(allow=(f"slow.example.com:{slow.port}", host.pair), timeout=1)
        fetcher = Fetcher(settings, lookup=Names(slow_example_com=[["127.0.0.1"]]), per_host=4, total=8)
        waiting = [asyncio.ensure_future(fetcher.fetch(f"http://slow.example.com:{slow.port}/")) for _ in range(200)]
        quick = await asyncio.gather(*(fetcher.fetch(f"{host.url}/") for _ in range(50)))
        during = slow.peak
        ends = await asyncio.gather(*waiting, return_exceptions=True)

    assert quick == [b"picture"] * 50
    assert during <= 4
    assert {type(end) for end in ends} == {UpstreamTimeoutError}


async def test_places_are_free_again_after_failures():
    """Neither errors nor cancelled calls keep a place."""
    async with RudeHost() as host, fetcher_for(host, timeout=0.1) as fetcher:
        host.answers = {"/slow": host.forever, "/": reply(b"picture")}
        tasks = [asyncio.ensure_future(fetcher.fetch(f"{host.url}/slow")) for _ in range(20)]
        await asyncio.wait(tasks, timeout=0.05)
        for task in tasks[:10]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert await fetcher.fetch(f"{host.url}/") == b"picture"


async def test_post_tells_the_status_and_follows_nothing():
    """A webhook's redirect is an answer, not a way: the body is sent once, to the place that was checked."""
    async with RudeHost() as host, fetcher_for(host) as fetcher:
        host.answers = {"/ok": reply(b"thanks", "202 Accepted"), "/away": redirect(f"{host.url}/ok", "307 T")}
        headers = {"Content-Type": "application/json", "X-Signature": "abc"}

        assert await fetcher.post(f"{host.url}/ok", b'{"a":1}', headers) == 202
        assert await fetcher.post(f"{host.url}/away", b"{}", headers) == 307

    assert host.paths == ["/ok", "/away"]
    assert host.bodies == [b'{"a":1}', b"{}"]
    assert "X-Signature: abc" in host.heads[0]


async def test_post_is_guarded_and_limited_too():
    """A webhook address is no more trusted than a picture's, and gets no more time."""
    async with RudeHost() as host, fetcher_for(host, timeout=0.2) as fetcher:
        host.answers["/"] = host.forever
        with pytest.raises(UpstreamTimeoutError):
            await fetcher.post(f"{host.url}/", b"{}", {})
        for url in (f"http://127.0.0.2:{host.port}/", "http://localhost/", "data:,x", "file:///etc/passwd"):
            with pytest.raises(BlockedAddressError):
                await fetcher.post(url, b"{}", {})


async def test_post_does_not_read_an_endless_answer():
    """The status is enough; the rest is left on the wire."""
    async with RudeHost() as host, fetcher_for(host) as fetcher:
        host.answers["/"] = host.endless

        assert await fetcher.post(f"{host.url}/", b"{}", {}) == 200


@pytest.mark.parametrize(
    "scheme", ["file:///etc/passwd", "ftp://images.example.com/", "blob:x", "javascript:1", "", "/a.png"]
)
async def test_other_schemes_are_refused_as_malformed(scheme):
    """Only http, https and data are known here."""
    with pytest.raises(BlockedAddressError) as caught:
        await Fetcher(Fetch()).fetch(scheme)

    assert caught.value.status == 400


async def test_system_lookup_resolves_through_its_own_threads():
    """The real resolver is asked when no other is given; loopback is then refused like everywhere."""
    async with Fetcher(Fetch(allow=("localhost:1",))) as fetcher:
        with pytest.raises(UnreachableError, match="no connection"):
            await fetcher.fetch("http://localhost:1/")


def test_message_names_the_place_without_its_secrets():
    """Query and fragment are left out, and a path that could go on for ever is cut."""
    assert place(URL("https://a.example.com:8443/b/c.png?sig=x#y")) == "https://a.example.com:8443/b/c.png"
    assert len(place(URL("https://a.example.com/" + "b" * 5000))) < 150


async def test_every_error_is_one_of_ours():
    """A host that breaks the connection at any byte never raises a stranger's exception."""
    whole = reply(b"picture", Content_Type="image/png")
    async with RudeHost() as host, fetcher_for(host) as fetcher:
        for end in range(0, len(whole), 7):
            host.answers["/"] = whole[:end]
            with pytest.raises(GatewayError):
                await fetcher.fetch(f"{host.url}/")
