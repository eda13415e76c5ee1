"""Pictures, clocks and servers for the storage tests."""

import hashlib
from dataclasses import dataclass

from gateway import PictureMeta

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Clock:
    """A clock that only tests move; it starts at a time that medium and machine agree on."""

    now: float

    def __call__(self) -> float:
        return self.now


def picture(key="k" * 40, data=PNG, **fields):
    """Make meta data that fit *data*."""
    known = {"media_type": "image/png", "width": 8, "height": 8, "created": 1000.0, "owner": "ann", "model": "flux"}
    return PictureMeta(key=key, length=len(data), sha256=hashlib.sha256(data).hexdigest(), **(known | fields))


async def listed(storage, owner=None):
    """Give the keys of a listing in its order."""
    return [meta.key async for meta in storage.list(owner)]
