"""Whether a URL of Redis or Valkey can be used at all, asked of the library before anything is connected."""

from __future__ import annotations

import importlib
import importlib.util
from urllib.parse import urlsplit


def check_redis_url(url: str) -> None:
    """Raise ValueError for a *url* that the library cannot use, or if the library (extra ``redis``) is not there.

    The library's own words may hold a part of the URL, and so of its password: they are not told.
    """
    if importlib.util.find_spec("redis") is None:
        raise ValueError("Redis needs the extra: pip install 'image-gateway[redis]'")
    try:
        place = urlsplit(url)
        _ = place.port
        # The library takes a name for the database 0.
        if place.scheme != "unix" and place.path.strip("/") and not place.path.strip("/").isdecimal():
            raise ValueError("no number of a database")
        # It is made, and connects only when it is used.
        importlib.import_module("redis").ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError):
        raise ValueError(
            "this is not a URL of Redis, like redis://:PASSWORD@HOST:6379/0 "
            "(in a password write / as %2F, # as %23, @ as %40; after ? only what its Python library takes)"
        ) from None
