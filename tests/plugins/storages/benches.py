"""The storages under test, each made again and again over its own medium, with a clock of the test's own."""

import time
import uuid

from gateway_plugins.storages.cloudflare_kv import CloudflareKV
from gateway_plugins.storages.disk import Disk
from gateway_plugins.storages.memory import Memory
from gateway_plugins.storages.redis import Redis
from gateway_plugins.storages.s3 import S3
from gateway_plugins.storages.tiered import Tiered

from gateway import Secret
from tests.plugins.storages.fake_kv import TOKEN
from tests.plugins.storages.pictures import Clock

TTL = 90.0


class Bench:
    """Makes the storage under test, again and again over the same medium, with a clock of the test's own."""

    def __init__(self, make):
        self.make = make
        self.clock = Clock(time.time())
        self.opened = []

    async def open(self, ttl=TTL):
        storage = self.make(ttl, self.clock)
        if hasattr(storage, "__aenter__"):
            await storage.__aenter__()
        self.opened.append(storage)
        return storage

    async def close(self):
        for storage in self.opened:
            if hasattr(storage, "__aexit__"):
                await storage.__aexit__(None, None, None)
        self.opened.clear()


def make_memory(request):
    def make(ttl, clock):
        storage = Memory(ttl=ttl)
        storage.clock = storage.timer = clock
        return storage

    return make


def make_disk(request):
    root = request.getfixturevalue("tmp_path") / "pictures"

    def make(ttl, clock):
        storage = Disk(root=root, ttl=ttl)
        storage.clock = clock
        return storage

    return make


def make_s3(**options):
    def make_for(request):
        server, prefix = request.getfixturevalue("seaweed"), f"t{uuid.uuid4().hex}"

        def make(ttl, clock):
            keys = {"access_key": server.access_key, "secret_key": server.secret_key} | options
            storage = S3(bucket=server.bucket, endpoint=server.endpoint, prefix=prefix, ttl=ttl, **keys)
            storage.clock = clock
            return storage

        return make

    return make_for


def make_redis(request):
    server, prefix = request.getfixturevalue("valkey"), f"t{uuid.uuid4().hex}:"

    def make(ttl, clock):
        storage = Redis(url=server.url, prefix=prefix, ttl=ttl)
        storage.clock = clock
        return storage

    return make


def make_cloudflare_kv(request):
    def make(ttl, clock):
        storage = CloudflareKV("acc", "ns", (Secret(TOKEN),), ttl=ttl, base_url=request.node.kv)
        storage.clock = clock
        return storage

    return make


def make_tiered(write):
    def make_for(request):
        make_last = make_disk(request)

        def make(ttl, clock):
            front = Memory(ttl=ttl / 2)
            front.clock = front.timer = clock
            storage = Chained(("front", "last"), write=write)
            storage.clock = clock
            storage.connect({"front": front, "last": make_last(ttl, clock)})
            return storage

        return make

    return make_for


class Chained(Tiered):
    """Tiers that are opened with their storage, as the runtime opens all storages."""

    async def __aenter__(self):
        await self._last.__aenter__()

    async def __aexit__(self, *reason):
        await self._last.__aexit__(*reason)


MAKERS = {"memory": make_memory, "disk": make_disk, "s3": make_s3(), "redis": make_redis}
MAKERS |= {"s3-redirect": make_s3(serve="redirect"), "s3-signed": make_s3(signing_keys=("a-signing-key-for-tests",))}
MAKERS |= {"cloudflare_kv": make_cloudflare_kv, "tiered": make_tiered("all"), "tiered-last": make_tiered("last")}
FORGETFUL = {"memory"}
SWEPT_BY_ITSELF = {"cloudflare_kv"}
