"""A small face of obstore: few calls, each with a deadline, whose errors never carry the store's own words."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from gateway.errors import StorageDownError, StorageError, StorageFullError
from gateway.object_errors import EmptyObjectError, Trouble, UnnamedRefusalError, code_of, meaning

log = logging.getLogger(__name__)
T = TypeVar("T")
BATCH = 100
PAGES_TIMEOUT = 600.0
"""Seconds that reading the names of a whole bucket may take; each page has the time of a call."""


class ObjectStore:
    """Objects of one bucket. *at_once* calls run together; each, its waiting included, may take *timeout* seconds.

    *trouble* is what is wrong now, logged under *name*.
    """

    def __init__(self, url: str, settings: dict[str, Any], at_once: int, timeout: float, name: str = "") -> None:
        if importlib.util.find_spec("obstore") is None:
            raise ValueError("object stores need a library that is not there: pip install 'image-gateway[s3]'")
        self._url, self._settings, self._timeout = url, settings, timeout
        self._free = asyncio.Semaphore(at_once)
        self.trouble = Trouble(name or url)
        self._obstore: Any = None
        self._store: Any = None

    def open(self) -> None:
        """Make the client; raise `StorageError` for settings that it does not take."""
        self._obstore = importlib.import_module("obstore")
        try:
            self._store = importlib.import_module("obstore.store").from_url(self._url, **self._settings)
        except (ValueError, TypeError, self._base) as error:
            raise StorageError(f"the object store's settings are not accepted: {type(error).__name__}") from error

    def close(self) -> None:
        """Let the client go."""
        self._store = None

    async def check(self, prefix: str) -> None:
        """Ask for one page of names; raise what every other call would meet."""
        await self._call(lambda: self._obstore.list_with_delimiter_async(self._store, prefix=f"{prefix}check/"))

    async def put(self, name: str, data: bytes, attributes: dict[str, str], only_new: bool = False) -> bool:
        """Write an object; False if *only_new* and there is one already."""
        mode = "create" if only_new else "overwrite"
        exists = importlib.import_module("obstore.exceptions").AlreadyExistsError
        try:
            await self._call(
                lambda: self._obstore.put_async(
                    self._store, name, data, attributes=attributes, mode=mode, use_multipart=False
                ),
                writing=True,
            )
        except exists:
            return False
        return True

    async def get(self, name: str, start: int = 0, end: int | None = None) -> Any | None:
        """Begin to read an object; None if there is none. The bytes come with `bytes_of`."""
        options = {} if end is None else {"range": (start, end)}
        try:
            return await self._call(lambda: self._obstore.get_async(self._store, name, options=options))
        except FileNotFoundError:
            return None
        except EmptyObjectError:
            return await self.head(name)

    async def head(self, name: str) -> Any | None:
        """Read what is known of an object without its bytes; None if there is none."""
        try:
            return await self._call(lambda: self._obstore.get_async(self._store, name, options={"head": True}))
        except FileNotFoundError:
            return None
        except UnnamedRefusalError:
            # An answer to HEAD has no body to say why in; this asks again for the reason.
            with suppress(EmptyObjectError, FileNotFoundError):
                await self._call(lambda: self._obstore.get_async(self._store, name, options={"range": (0, 1)}))
            raise

    async def bytes_of(self, found: Any) -> bytes:
        """Read the bytes of what `get` found."""
        return bytes(await self._call(found.bytes_async))

    async def part(self, name: str, start: int, end: int, tag: str | None) -> bytes:
        """Read a part; raise `StorageError` if the object is not the one with *tag* any more."""
        options = {"range": (start, end), **({"if_match": tag} if tag else {})}

        async def read() -> bytes:
            found = await self._obstore.get_async(self._store, name, options=options)
            return bytes(await found.bytes_async())

        try:
            part = await self._call(read)
        except FileNotFoundError as error:
            raise StorageError("the picture has gone from the object store meanwhile") from error
        if len(part) != end - start:
            raise StorageError("the object store gave another length than was asked for")
        return part

    async def delete(self, names: list[str]) -> None:
        """Delete objects; those that are not there are no error."""
        for at in range(0, len(names), BATCH):
            work = partial(self._obstore.delete_async, self._store, names[at : at + BATCH])
            try:
                await self._call(work)
            except FileNotFoundError:
                continue

    async def sign(self, name: str, seconds: float) -> str:
        """Make a URL under which everyone may read the object for a while."""
        life = timedelta(seconds=max(1, int(seconds)))
        return str(await self._call(lambda: self._obstore.sign_async(self._store, "GET", name, life)))

    async def list(self, prefix: str, deep: bool = True) -> AsyncIterator[tuple[str, float]]:
        """Yield names and times of change of all objects under *prefix*; not *deep* leaves out folders within."""
        if not deep:
            # It reads all pages in one call.
            found = await self._call(
                lambda: self._obstore.list_with_delimiter_async(self._store, prefix=prefix), seconds=PAGES_TIMEOUT
            )
            for entry in found["objects"]:
                yield entry["path"], entry["last_modified"].timestamp()
            return
        with self._translated():
            pages = self._obstore.list(self._store, prefix=prefix, chunk_size=1000)
        while (page := await self._call(lambda: anext(pages, None))) is not None:
            for entry in page:
                yield entry["path"], entry["last_modified"].timestamp()

    async def _call(self, call: Callable[[], Awaitable[T]], writing: bool = False, seconds: float | None = None) -> T:
        if self._store is None:
            raise StorageDownError("the object store is not open")
        try:
            with self._translated():
                async with asyncio.timeout(seconds or self._timeout), self._free:
                    answer = await call()
        except UnnamedRefusalError:
            raise
        except (StorageDownError, StorageFullError) as error:
            self.trouble.met(error)
            raise
        self.trouble.over(writing)
        return answer

    @property
    def _base(self) -> type[Exception]:
        base: type[Exception] = importlib.import_module("obstore.exceptions").BaseError
        return base

    @contextmanager
    def _translated(self) -> Iterator[None]:
        exceptions = importlib.import_module("obstore.exceptions")
        try:
            yield
        except TimeoutError as error:
            raise StorageDownError("the object store does not answer in time", retry_after=5) from error
        except exceptions.AlreadyExistsError:
            raise
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchBucket":
                raise meaning(error) from None
            raise
        except exceptions.PreconditionError as error:
            raise StorageError("the picture has changed in the object store meanwhile") from error
        except (self._base, OSError, ValueError) as error:
            # The library's text holds the store's XML and a debug dump: it goes no further than the log's debug level.
            log.debug("object store: %s", error)
            raise meaning(error) from None
