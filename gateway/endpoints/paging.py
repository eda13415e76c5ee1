"""How long a page of a list may be."""

from __future__ import annotations

import re

from aiohttp import web

from gateway.errors import RequestError

PAGE = 20
LARGEST_PAGE = 100
NUMBER = re.compile(r"[0-9]{1,4}")


def page_limit(request: web.Request) -> int:
    """Read ``limit``, 1 to 100, 20 if it is not given."""
    text = request.query.get("limit", str(PAGE))
    if not NUMBER.fullmatch(text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise RequestError(f"limit must be a whole number from 1 to {LARGEST_PAGE}", param="limit")
    return int(text)
