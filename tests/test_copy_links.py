"""Signed links open one copy of one picture until their time, and nothing beside it."""

import itertools
from urllib.parse import parse_qsl, urlencode

import pytest

from gateway.copy_links import CopyLink, sign_copy, until, verify_copy
from gateway.errors import PermissionError_, RequestError
from gateway.signing import sign
from gateway.transforms import Transform

OLD, NEW = "old-key-of-sixteen+", "new-key-of-sixteen+"
KEY, OTHER = "0123456789abcdef0123456789abcdef01234567", "0123456789abcdef0123456789abcdef01234568"
LINK = CopyLink(KEY, Transform(333, 222, "webp", 77), 2000)
QUERY = sign_copy(LINK, [NEW])
PARTS = dict(parse_qsl(QUERY))
COPIES = [
    Transform(width=1),
    Transform(height=99_999),
    Transform(output_format="jpeg"),
    Transform(quality=100),
    Transform(33, None, "avif", 3),
]


@pytest.mark.parametrize("copy", COPIES)
def test_a_link_gives_its_copy_back(copy):
    """Whatever is asked for and whatever is left out comes back as it was signed."""
    query = sign_copy(CopyLink(KEY, copy, 2000), [NEW])

    assert verify_copy(query, KEY, [NEW], 1999.9) == CopyLink(KEY, copy, 2000)


def test_the_query_reads_as_documented():
    """Names and order are those that clients see in the README."""
    assert [name for name, _ in parse_qsl(QUERY)] == ["w", "h", "format", "quality", "expires", "signature"]


@pytest.mark.parametrize("now", [2000, 2000.5, 10**11])
def test_a_link_dies_at_its_expiry(now):
    """From the very second on it is worth nothing."""
    with pytest.raises(PermissionError_):
        verify_copy(QUERY, KEY, [NEW], now)


def test_rotation_keeps_old_links_alive():
    """The first key signs, every key verifies; a key that is gone takes its links along."""
    old = sign_copy(LINK, [OLD])

    assert verify_copy(old, KEY, [NEW, OLD], 0) == LINK
    assert sign_copy(LINK, [NEW, OLD]) == QUERY != old
    with pytest.raises(PermissionError_):
        verify_copy(old, KEY, [NEW], 0)


def forged():
    """Yield queries that a stranger may try with one good link in hand."""
    pairs = QUERY.split("&")
    yield from ("&".join(order) for order in itertools.islice(itertools.permutations(pairs), 1, None, 60))
    yield from ("&".join(pairs[:at] + pairs[at + 1 :]) for at in range(len(pairs)))
    for pair in pairs:
        yield from (f"{pair}&{QUERY}", f"{QUERY}&{pair}", QUERY.replace(pair, f"{pair}&{pair}"))
    yield from (f"w=334&{QUERY}", f"{QUERY}&w=334", QUERY.replace("h=222", "h=222&w=334"), QUERY + "&download=1")
    yield from (QUERY + more for more in ("&", "&x", "&x=", "=", "%", "%00", "#", "&W=1", " ", "\n", ";w=1", "0"))
    yield from ("&" + QUERY, "?" + QUERY, QUERY.replace("&", ";"), QUERY.replace("&", "&&"), QUERY.replace("=", "%3D"))
    yield from (QUERY.replace("w=", "%77="), QUERY.replace("333", "%333%333%333"), QUERY.replace("333", "0333"))
    changes = {
        "w": ["", "0", "334", "33", "3333", "+333", "-333", "333.0", "3e2", "0x14d", "٣٣٣", "9" * 5000, "333 "],
        "h": ["", "223", "222\n", "2 22"],
        "format": ["", "WEBP", "png", "jpeg", "svg", "../x", "webp,png", "image/webp"],
        "quality": ["", "78", "077", "101", "0"],
        "expires": ["", "2001", "02000", "+2000", "2000.0", "2e3", "２０００", "-1", "9" * 400, "inf", "nan", "0"],
        "signature": ["", "0" * 64, "ü" * 64, "\udcff", PARTS["signature"].upper(), PARTS["signature"][:-1]],
    }
    changes["signature"] += [PARTS["signature"] + "0", PARTS["signature"][::-1], " " + PARTS["signature"], "null"]
    for name, values in changes.items():
        yield from (urlencode({**PARTS, name: value}, errors="surrogatepass") for value in values)
    # Digits that move from one value to the next, and values that stand for each other.
    yield urlencode({**PARTS, "w": "33", "h": "3222"})
    yield urlencode({**PARTS, "w": "222", "h": "333"})
    yield from ("", "signature=", "expires=&signature=", "&" * 5000, "=" * 50, "a" * 100_000, "signature")


@pytest.mark.parametrize("query", [*forged()])
def test_a_forged_link_is_refused_in_one_voice(query):
    """Whatever is wrong, the answer is the same 403: never a crash, never a hint."""
    assert query != QUERY
    with pytest.raises(PermissionError_) as caught:
        verify_copy(query, KEY, [NEW, OLD], 0)

    assert (caught.value.status, caught.value.code) == (403, "invalid_link")
    assert caught.value.message == "this link was not signed by this gateway, or it has expired"


def test_a_link_is_one_pictures():
    """The signature of one picture opens no other, not even one whose key is nearly the same."""
    for key in (OTHER, KEY[:-1], KEY + "0", KEY.upper() + "x", f"{KEY}?w=333"):
        with pytest.raises(PermissionError_):
            verify_copy(QUERY, key, [NEW], 0)


def test_links_to_copies_and_through_the_proxy_do_not_stand_for_each_other():
    """A caller who may have one kind of link signed cannot make the other kind of it."""
    unsigned = QUERY.rpartition("&")[0]
    proxied = dict(parse_qsl(sign(f"{KEY}?{unsigned}", [NEW], 2000)))["sig"]

    assert PARTS["signature"] != proxied
    with pytest.raises(PermissionError_):
        verify_copy(f"{unsigned}&signature={proxied}", KEY, [NEW], 0)


@pytest.mark.parametrize(
    ("copy", "param"),
    [
        (Transform(), "width"),
        (Transform(width=0), "width"),
        (Transform(width=-5), "width"),
        (Transform(width=100_000), "width"),
        (Transform(height=0), "height"),
        (Transform(quality=0), "quality"),
        (Transform(quality=101), "quality"),
        (Transform(output_format="svg"), "format"),
        (Transform(output_format=""), "format"),
    ],
)
def test_what_no_copy_can_be_is_not_signed(copy, param):
    """A link that could never work is refused when it is made, and the field named."""
    with pytest.raises(RequestError) as caught:
        sign_copy(CopyLink(KEY, copy, 2000), [NEW])

    assert caught.value.param == param


@pytest.mark.parametrize("keys", [[], [""], ["short"], ["x" * 15], [NEW, ""]])
def test_weak_keys_are_refused(keys):
    """A key that could be guessed is an error, never an open door."""
    with pytest.raises(ValueError, match="16 characters"):
        sign_copy(LINK, keys)
    with pytest.raises(ValueError, match="16 characters"):
        verify_copy(QUERY, KEY, keys, 0)


@pytest.mark.parametrize("seconds", [0, 0.5, -1, 10**10, float("inf")])
def test_a_link_neither_ends_at_once_nor_lives_for_ever(seconds):
    """Its end is a second that will come."""
    with pytest.raises(RequestError, match="must hold"):
        until(seconds, 0)
    assert until(60, 100) == 160
