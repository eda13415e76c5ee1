"""Signed links open the image proxy for what the gateway signed, and for nothing else."""

import time
from urllib.parse import parse_qsl, urlencode

import pytest

from gateway.errors import PermissionError_
from gateway.settings import Proxy
from gateway.signing import sign, verify

OLD, NEW = "old-key-of-sixteen+", "new-key-of-sixteen+"
URL = "https://images.example.com/a b.png?x=1&y=%2F&sig=evil#ü"
QUERY = sign(URL, [NEW], 2000)
PARTS = dict(parse_qsl(QUERY))


def test_signed_link_gives_its_url_back():
    """The URL survives the way through the query string unchanged, whatever characters it has."""
    link = verify(QUERY, [NEW], 1999)

    assert (link.url, link.expires) == (URL, 2000)


@pytest.mark.parametrize("now", [2000, 2001, 10**10])
def test_link_dies_at_its_expiry(now):
    """From the very second on the link is worth nothing."""
    with pytest.raises(PermissionError_, match="expired"):
        verify(QUERY, [NEW], now)


def test_rotation_keeps_old_links_alive():
    """The first key signs, every key verifies; a key that is gone takes its links along."""
    old = sign(URL, [OLD], 2000)
    both = [NEW, OLD]

    assert verify(old, both, 0).url == URL
    assert sign(URL, both, 2000) == sign(URL, [NEW], 2000) != old
    with pytest.raises(PermissionError_):
        verify(old, [NEW], 0)


def forged():
    """Yield queries that a forger may try with one good link in hand."""
    signature = PARTS["sig"]
    yield from ("", "url=", "sig=&exp=&url=", f"url={PARTS['exp']}", "a=1", "&&&", "=" * 50, "&" * 5000)
    wrong_signatures = [
        "",
        signature.upper(),
        signature[:-1],
        signature + "0",
        signature[::-1],
        " " + signature,
        "0" * 64,
    ]
    wrong_signatures += ["ü" * 64, signature + "\x00", "\udcff"]
    wrong_urls = [
        "",
        URL + "x",
        URL.upper(),
        "https://images.example.com/",
        "x\n2000",
        URL.replace("x=1&y=%2F", "y=%2F&x=1"),
    ]
    wrong_expiries = ["", "2001", "02000", "+2000", " 2000", "2000.0", "2e3", "２０００", "-1", "9" * 4000, "inf"]
    changes = [{"sig": value} for value in wrong_signatures]
    changes += [{"url": value} for value in wrong_urls] + [{"exp": value} for value in wrong_expiries]
    yield from (urlencode({**PARTS, **change}, errors="surrogatepass") for change in changes)
    url, exp, sig = QUERY.split("&")
    orders = [[exp, url, sig], [sig, exp, url], [url, sig, exp], [url, exp], [url, sig], [url, exp, sig, sig]]
    yield from ("&".join(parts) for parts in orders)
    yield from (f"{QUERY}&url=https://evil.example.com", f"url=https://evil.example.com&{QUERY}", f"{QUERY}&a=1")
    yield from (QUERY.replace("sig=", "Sig="), QUERY.replace("&", ";"), QUERY.replace("&exp", "%26exp"))
    yield from (QUERY + "%", QUERY + "%ff", QUERY + "+")


@pytest.mark.parametrize("query", [*forged()])
def test_forged_link_is_refused_in_one_voice(query):
    """Whatever is wrong, the answer is the same 403."""
    with pytest.raises(PermissionError_) as caught:
        verify(query, [NEW, OLD], 0)

    assert caught.value.status == 403
    assert caught.value.message == "this link was not signed by this gateway, or it has expired"


def test_url_and_expiry_cannot_trade_characters():
    """Moving digits from one field to the other makes another signature."""
    signatures = {
        dict(parse_qsl(sign(url, [NEW], expires)))["sig"]
        for url, expires in [("1http://a", 2), ("http://a", 21), ("http://a", 2)]
    }

    assert len(signatures) == 3


@pytest.mark.parametrize("keys", [[], [""], ["short"], ["x" * 15], [NEW, ""]])
def test_weak_keys_are_refused(keys):
    """A key that could be guessed is an error, never an open door."""
    with pytest.raises(ValueError, match="16 characters"):
        sign(URL, keys, 2000)
    with pytest.raises(ValueError, match="16 characters"):
        verify(QUERY, keys, 0)


@pytest.mark.parametrize("keys", [("",), ("x" * 15,), (NEW, "short")])
def test_weak_keys_stop_the_start(keys):
    """The configuration refuses them before anything listens."""
    with pytest.raises(ValueError, match="16 characters"):
        Proxy(keys=keys)


@pytest.mark.parametrize(
    "host", ["", "*", "http://a.example.com", "a.example.com:80", "a.*.com", "*example.com", "a/b", "a..b"]
)
def test_pattern_that_is_no_host_stops_the_start(host):
    """A pattern that could mean everything, or nothing, is refused."""
    with pytest.raises(ValueError, match="without scheme"):
        Proxy(hosts=(host,))


def test_checking_takes_no_longer_where_more_is_right():
    """A signature wrong in its first character takes as long as one wrong in its last: no comparison stops early."""
    signature = PARTS["sig"]
    flip = {character: "0" if character != "0" else "1" for character in "0123456789abcdef"}
    guesses = [flip[signature[0]] + signature[1:], signature[:-1] + flip[signature[-1]]]
    best = [min(timed(urlencode({**PARTS, "sig": guess})) for _ in range(300)) for guess in guesses]

    assert max(best) < 3 * min(best)


def timed(query: str) -> float:
    begun = time.perf_counter()
    with pytest.raises(PermissionError_):
        verify(query, [NEW, OLD], 0)
    return time.perf_counter() - begun
