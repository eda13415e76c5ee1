"""Callers by API key."""

import ast
import asyncio
import hashlib
import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_type_hints
from unittest.mock import Mock

import pytest
from gateway_plugins.authenticators import api_keys
from gateway_plugins.authenticators.api_keys import ApiKeys, Key
from pydantic import TypeAdapter, ValidationError

from gateway import AuthenticationError, Caller, Credentials, PermissionError_, Secret

HASH = hashlib.sha256(b"hashed-key").hexdigest()


async def caller(authenticator, token):
    return await authenticator.authenticate(Credentials(Secret(token)))


def keys_option():
    return get_type_hints(ApiKeys, include_extras=True)["keys"]


def test_a_key_of_digits_needs_quotes():
    """YAML would make a number of it, and another text of some numbers; the complaint says what to do."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(keys_option()).validate_python([1234567890123456])

    assert "a key that looks like a number must stand in quotes" in str(caught.value)


async def test_plain_hashed_and_named_keys():
    """All three forms stand in one list."""
    keys = ApiKeys(
        keys=(
            "plain-key",
            f"sha256:{HASH}",
            Key("alice", key=Secret("a-key"), models=("flux-*",)),
            Key("bob", sha256="0" * 64),
        )
    )

    assert (await caller(keys, "plain-key")).name == f"key-{hashlib.sha256(b'plain-key').hexdigest()[:8]}"
    assert (await caller(keys, "hashed-key")).name == f"key-{HASH[:8]}"
    assert await caller(keys, "a-key") == Caller("alice", ("flux-*",))


async def test_options_as_yaml_gives_them():
    """Comma lists, hashes and mappings pass the validation of the config."""
    validated = TypeAdapter(keys_option()).validate_python(
        ["one, two", f"sha256:{HASH.upper()}", {"name": "x", "key": "three", "models": "a,b", "expires": "2030-01-02"}]
    )
    keys = ApiKeys(keys=validated)

    assert all([await caller(keys, token) for token in ("one", "two", "hashed-key", "three")])
    assert (await caller(keys, "three")).models == ("a", "b")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        " ",
        ",",
        [""],
        [{"name": "x"}],
        [{"name": "x", "key": ""}],
        [{"name": "x", "key": " "}],
        [{"key": "canary-1", "sha256": HASH}],
        [{"key": "canary-1", "nmae": "x"}],
        [{"key": "canary-1", "expires": "soon"}],
        [{"key": "canary-1", "expires": 2027}],
        [{"key": "canary-1", "expires": 20270101}],
        [{"key": "canary-1", "expires": "20270101120000"}],
        [{"key": "canary-1", "expires": ""}],
        [{"sha256": "12"}],
        [None],
        [12],
        None,
    ],
)
def test_bad_keys_are_refused_without_being_shown(bad):
    """An empty or malformed key stops the start, and the complaint hides values."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(keys_option()).validate_python(bad)

    complaints = caught.value.errors(include_input=False, include_url=False, include_context=False)
    assert "canary" not in str(complaints)


@pytest.mark.parametrize("keys", [(), ("",), ("sha256:12",), ("same", "same"), ("generate", "generate")])
def test_keys_that_cannot_work_are_refused(keys):
    """No key, empty, malformed and double ones."""
    with pytest.raises(ValueError):
        ApiKeys(keys=keys)


def test_hash_and_key_of_the_same_secret_are_double():
    """The same key may not stand once plain and once hashed."""
    with pytest.raises(ValueError, match="twice"):
        ApiKeys(keys=("hashed-key", f"sha256:{HASH}"))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "right-ke",
        "right-keyy",
        "RIGHT-KEY",
        " right-key",
        "right-key ",
        "right-key\x00",
        "right-key junk",
        "sha256:" + HASH,
        HASH,
    ],
)
async def test_only_the_exact_key_is_known(token):
    """Neither a part of a key, nor more than it, nor its hash opens."""
    assert await caller(ApiKeys(keys=("right-key", f"sha256:{HASH}")), token) is None


async def test_non_ascii_key_works():
    """A key may be any text."""
    assert await caller(ApiKeys(keys=("schlüssel-ключ",)), "schlüssel-ключ")


async def test_disabled_key_is_refused():
    """A disabled key is known, and told so."""
    keys = ApiKeys(keys=(Key("old", key=Secret("k-1"), disabled=True),))

    with pytest.raises(PermissionError_) as caught:
        await caller(keys, "k-1")
    assert caught.value.status == 403


@pytest.mark.parametrize(("now", "known"), [(999.9, True), (1000.0, False), (2000.0, False)])
async def test_key_expires(now, known):
    """From the second of its expiry a key is refused with 401."""
    keys = ApiKeys(keys=(Key("guest", key=Secret("k-1"), expires=datetime.fromtimestamp(1000, UTC)),))
    keys.clock = lambda: now

    if known:
        assert await caller(keys, "k-1")
    else:
        with pytest.raises(AuthenticationError):
            await caller(keys, "k-1")


async def test_expiry_without_zone_is_utc():
    """The machine's own zone does not matter."""
    keys = ApiKeys(keys=(Key("guest", key=Secret("k-1"), expires=datetime(1970, 1, 1, 1)),))
    keys.clock = lambda: 3599.0

    assert await caller(keys, "k-1")


async def test_two_keys_of_one_name_overlap():
    """While a key is replaced both mean the same caller."""
    keys = ApiKeys(keys=(Key("app", key=Secret("old-key")), Key("app", key=Secret("new-key"))))

    assert await caller(keys, "old-key") == await caller(keys, "new-key")


async def test_generated_key_is_kept(tmp_path):
    """The first start makes a key, later ones find it; nobody else can read it."""
    file = tmp_path / "deep" / "key"
    async with ApiKeys(keys=("generate",), file=file) as first:
        made = first.generated
        assert await caller(first, made)
    async with ApiKeys(keys=("generate",), file=file) as second:
        assert second.generated == made

    assert re.fullmatch(r"ig-[\w-]{43}", made)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


async def test_nothing_is_generated_before_the_start(tmp_path):
    """Checking a config writes no file, and the word itself is no key."""
    keys = ApiKeys(keys=("generate",), file=tmp_path / "key")

    assert keys.generated is None
    assert await caller(keys, "generate") is None
    assert not (tmp_path / "key").exists()
    async with keys:
        assert await caller(keys, "generate") is None


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
async def test_two_that_start_at_once_have_one_key(tmp_path, monkeypatch, links):
    """The first one's, which is also the one that the file keeps; nothing else is left beside it."""
    if not links:
        monkeypatch.setattr("os.link", Mock(side_effect=PermissionError))
    both = [ApiKeys(keys=("generate",), file=tmp_path / "key") for _ in range(16 if links else 1)]
    await asyncio.gather(*(each.__aenter__() for each in both))

    assert {each.generated for each in both} == {(tmp_path / "key").read_text().strip()}
    assert all(each.kept for each in both)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("there", [True, False], ids=["empty", "not there yet"])
async def test_a_link_to_a_volume_leads_there(tmp_path, there):
    """The key lies where it outlives the machine, and the link stays one."""
    (tmp_path / "volume").mkdir()
    if there:
        (tmp_path / "volume" / "key").touch()
    (tmp_path / "key").symlink_to(tmp_path / "volume" / "key")
    async with ApiKeys(keys=("generate",), file=tmp_path / "key") as keys:
        assert (tmp_path / "volume" / "key").read_text().strip() == keys.generated
        assert (tmp_path / "key").is_symlink()
        assert keys.kept


async def test_empty_file_is_no_key(tmp_path):
    """A start that died before writing leaves no open door."""
    (tmp_path / "key").write_text("\n")
    async with ApiKeys(keys=("generate",), file=tmp_path / "key") as keys:
        assert keys.generated.startswith("ig-")
        assert await caller(keys, "") is None


async def test_unwritable_place_is_told(tmp_path, caplog):
    """The gateway still starts with a random key, which lasts until the next start."""
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        async with ApiKeys(keys=("generate",), file=tmp_path / "file" / "key") as keys:
            assert not keys.kept
            assert await caller(keys, keys.generated)

    assert "lasts until the next start" in caplog.text
    assert keys.generated not in caplog.text


async def test_generated_key_may_have_a_name(tmp_path):
    """A mapping may ask for a random key, too."""
    async with ApiKeys(keys=(Key("admin", key=Secret("generate")),), file=tmp_path / "key") as keys:
        assert (await caller(keys, keys.generated)).name == "admin"


def test_secrets_are_compared_in_constant_time():
    """Nothing in the source compares a token, key or digest with == or in."""
    tree = ast.parse(Path(api_keys.__file__).read_text())
    leaky = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare) and isinstance(node.ops[0], leaky)]

    assert not [text for text in map(ast.unparse, compared) if re.search(r"\b(token|digest|entry)\b", text)]
    assert "hmac.compare_digest(entry.digest, digest)" in ast.unparse(tree)


def test_a_hash_is_no_key_of_its_own():
    """Whoever pastes it under key: would open the gateway with what stands in the file."""
    with pytest.raises(ValueError, match="hash of a key"):
        ApiKeys(keys=({"name": "alice", "key": f"sha256:{HASH}"},))
