"""`check --connect` names everything that cannot be reached, at once, and leaves nothing behind."""

import asyncio
import dataclasses
import logging
import time
import uuid

import obstore
import obstore.exceptions
import pytest
from click.testing import CliRunner
from gateway_plugins.storages.memory import Memory
from obstore.store import S3Store

from gateway.cli import main
from gateway.config import load, settings_of
from gateway.reaching import complaints
from tests.gateways import AUTHENTICATORS, _with, installed
from tests.plugins.storages.conftest import seaweed, valkey  # noqa: F401  - fixtures
from tests.plugins.storages.s3_front import front_of, refusal

REST = AUTHENTICATORS + "backends: {here: {use: demo}}\nmodels: {demo: {backends: [{backend: here}], storage: first}}\n"
NOWHERE = "127.0.0.1:1"


def check(folder, text, *arguments):
    """Run the command on a configuration."""
    (folder / "config.yaml").write_text(REST + text)
    (folder / "config.yaml").chmod(0o600)
    return CliRunner().invoke(main, ["check", str(folder / "config.yaml"), *arguments])


@pytest.fixture
def s3(seaweed):  # noqa: F811  - a fixture
    prefix = f"t{uuid.uuid4().hex}"

    def write(**options):
        known = {"bucket": seaweed.bucket, "endpoint": seaweed.endpoint, "prefix": prefix, "timeout": "3s"}
        known |= {"access_key": seaweed.access_key, "secret_key": seaweed.secret_key} | options
        return "{use: s3, " + ", ".join(f'{name}: "{value}"' for name, value in known.items()) + "}"

    write.prefix = prefix
    write.bucket = S3Store(
        seaweed.bucket,
        endpoint=seaweed.endpoint,
        client_options={"allow_http": True},
        access_key_id=seaweed.access_key,
        secret_access_key=seaweed.secret_key,
    )
    while not has_bucket(write.bucket):
        time.sleep(0.05)
    return write


def has_bucket(bucket):
    """A server that has just begun makes its bucket a moment later."""
    try:
        return obstore.list_with_delimiter(bucket) is not None
    except obstore.exceptions.BaseError:
        return False


def test_what_can_be_reached_is_said_and_nothing_is_left(tmp_path, s3, valkey):  # noqa: F811  - fixtures
    """All kinds of storages are written, read and deleted from; no pixel stays, and no record of a job."""
    text = (
        f"storages:\n  first: {s3()}\n  second: {{use: disk, root: {tmp_path}/pictures}}\n"
        f"  third: {{use: redis, url: '{valkey.url}', prefix: '{s3.prefix}:'}}\n  fourth: {{use: memory}}\n"
        f"  fifth: {{use: tiered, tiers: [fourth, first]}}\n  sixth: {s3(serve='redirect')}\n"
        f"jobs: {{state: {tmp_path}/jobs.db}}\n"
    )
    result = check(tmp_path, text, "--connect")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("The configuration is good, and what it names can be reached.\n")
    assert [entry for page in obstore.list(s3.bucket, prefix=s3.prefix) for entry in page] == []
    assert [path for path in (tmp_path / "pictures").rglob("*") if path.is_file()] == []


def test_all_that_is_wrong_is_named_at_once(tmp_path, s3, caplog):
    """In the order of the file, with the reason, exit 78, in time, and without a secret; what is good is not named."""
    (tmp_path / "a-file").write_text("")
    text = (
        f"storages:\n  first: {{use: memory}}\n  key: {s3(access_key='canary-key')}\n"
        f"  secret: {s3(secret_key='canary-secret')}\n  bucket: {s3(bucket='no-such-bucket')}\n"
        f"  address: {s3(endpoint='http://' + NOWHERE)}\n  redis: {{use: redis, url: 'redis://:canary-word@{NOWHERE}/0'}}\n"
        f"  disk: {{use: disk, root: {tmp_path}/a-file/pictures}}\n  tiers: {{use: tiered, tiers: [first, disk]}}\n"
        f"jobs: {{state: 'redis://:canary-state@{NOWHERE}/0'}}\n"
    )
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        result = check(tmp_path, text, "--connect")
    lines = [line for line in result.stderr.splitlines() if line.startswith(("storages.", "jobs."))]

    assert result.exit_code == 78
    assert time.monotonic() - begun < 30
    expected = [
        ("storages.key (s3): ", "does not know the access key"),
        ("storages.secret (s3): ", "secret key is not that of the access key"),
        ("storages.bucket (s3): ", "no such bucket"),
        ("storages.address (s3): ", "no answer"),
        ("storages.redis (redis): ", "Redis cannot be used now (ConnectionError)"),
        ("storages.disk (disk): ", "ENOTDIR"),
        ("jobs.state: ", "Redis does not answer"),
    ]
    assert len(lines) == len(expected), lines
    for line, (begin, words) in zip(lines, expected, strict=True):
        assert line.startswith(begin)
        assert words in line
    assert "canary" not in result.output + caplog.text
    assert "no-such-bucket (http://" in caplog.text


@pytest.mark.parametrize(
    ("methods", "step"), [({"PUT"}, "written"), ({"GET"}, "read"), ({"POST", "DELETE"}, "deleted from")]
)
async def test_a_missing_permission_is_named(tmp_path, s3, seaweed, methods, step):  # noqa: F811  - fixtures
    """Keys that may do most things are told what they may not."""
    async with front_of(seaweed.endpoint) as front:
        front.only = lambda request: request.method in methods and "list-type" not in request.query_string
        front.always = refusal(403, "AccessDenied")
        text = f"storages: {{first: {s3(endpoint=front.base)}}}\n"
        result = await asyncio.to_thread(check, tmp_path, text, "--connect")

    assert f"storages.first (s3): cannot be {step}: " in result.stderr
    assert result.exit_code == 78
    assert "AccessDenied" in result.stderr


def test_without_the_option_nothing_is_asked(tmp_path, s3):
    """The plain check is as fast as ever, whatever is down, and makes no file."""
    text = (
        f"storages:\n  first: {s3(endpoint='http://' + NOWHERE)}\n  disk: {{use: disk, root: {tmp_path}/pictures}}\n"
        f"jobs: {{state: {tmp_path}/jobs.db}}\n"
    )
    result = check(tmp_path, text)

    assert result.exit_code == 0
    assert result.stdout.endswith("The configuration is good.\n")
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml"}


@dataclasses.dataclass
class Hanging(Memory):
    """Hangs at one of its ends; *closed* tells whether it was closed."""

    at: str = "open"
    closed: bool = dataclasses.field(default=False, init=False)

    async def __aenter__(self):
        await self._perhaps("open")

    async def __aexit__(self, *_):
        self.closed = True
        await self._perhaps("close")

    async def put(self, meta, data):
        await self._perhaps("put")
        return await super().put(meta, data)

    async def _perhaps(self, at):
        if at == self.at:
            await asyncio.Event().wait()
        if self.at == f"raise at {at}":
            raise KeyError("canary-of-a-library")


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("open", "does not answer within 0.1 s"),
        ("put", "does not answer within 0.1 s"),
        ("close", "does not answer within 0.1 s"),
        ("raise at open", "fails with KeyError"),
        ("raise at put", "fails with KeyError"),
        ("raise at close", "fails with KeyError"),
    ],
)
async def test_what_hangs_or_breaks_is_named_and_the_others_are_tried(tmp_path, at, words):
    """Each has its own time; what was opened is closed; no words of a library are shown."""
    text = f"storages: {{first: {{use: memory}}, slow: {{use: hanging, at: {at}}}, down: {{use: redis, url: 'redis://{NOWHERE}'}}}}"
    document = load(tmp_path / "config.yaml", REST + text, {})
    configuration = settings_of(document, _with({"storages": {"hanging": Hanging}}, installed()))
    begun = time.monotonic()
    said = await complaints(configuration, patience=0.1)

    assert time.monotonic() - begun < 5
    assert said[0] == f"storages.slow (hanging): {words}"
    assert said[1].startswith("storages.down (redis): ")
    assert configuration.components["storages"]["slow"].closed is (at not in {"open", "raise at open"})
