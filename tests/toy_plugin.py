"""A plugin file as a stranger would write it: one toy component of each kind, for the tests of configurations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gateway import (
    ByteSize,
    Caller,
    Capabilities,
    Credentials,
    Duration,
    Event,
    Image,
    ImageRequest,
    Keys,
    PictureMeta,
    Proceed,
    RateOption,
    Report,
    SizeOption,
    Stage,
    StoredPicture,
    Words,
    Work,
    hookimpl,
)

if TYPE_CHECKING:
    from a_library_that_is_not_installed import Tensor  # type: ignore[import-not-found]


@dataclass
class Lock:
    """Knows callers by their *keys*."""

    keys: Keys

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("keys: at least one is needed")

    async def authenticate(self, credentials: Credentials) -> Caller | None:
        return Caller("toy") if credentials.token in self.keys else None


@dataclass(frozen=True)
class Wire:
    """How to talk to the upstream. *connect* is the time for a connection."""

    connect: Duration = 5
    limit: ByteSize = 2**20


@dataclass
class Paint:
    """Paints one colour. *colour* is that colour; *size* is how large it comes."""

    keys: Keys = ()
    colour: Literal["red", "green", "blue"] = "red"
    size: SizeOption | None = None
    steps: int = 4
    loud: bool = False
    strength: float = 1.0
    label: str = ""
    root: Path = Path("paint")
    wire: Wire = field(default_factory=Wire)
    name: str = field(init=False, default="")
    tensor: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.steps > 8:
            raise ValueError("steps must be at most 8")

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities()

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        return []


@dataclass
class Prefix:
    """Puts *words* before the prompt."""

    words: Words = ()

    async def optimize(self, request: ImageRequest) -> str:
        return " ".join([*self.words, request.prompt])


@dataclass
class Gate:
    """Lets *images* pass."""

    images: RateOption
    stages: tuple[Stage, ...] = field(init=False, default=("job",))

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        return await proceed(work)


@dataclass
class Shelf:
    """Keeps nothing for *ttl*."""

    ttl: Duration = 60

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        return meta

    async def get(self, key: str) -> StoredPicture | None:
        return None

    async def delete(self, key: str) -> bool:
        return False

    async def list(self, owner: str | None = None) -> AsyncIterator[PictureMeta]:
        for meta in ():
            yield meta

    async def sweep(self) -> int:
        return 0


@dataclass
class Stack(Shelf):
    """A shelf made of other shelves: *tiers* are their names."""

    tiers: Words = ()
    shelves: list[Any] = field(init=False, default_factory=list)

    def connect(self, components: Mapping[str, object]) -> None:
        for name in self.tiers:
            if name not in components:
                raise ValueError(f"no storage is named {name}")
            self.shelves.append(components[name])


@dataclass
class Diary:
    """Writes nothing down."""

    file: Path | None = None

    async def observe(self, event: Event) -> None: ...


@hookimpl
def provide_authenticators() -> dict[str, type]:
    return {"toy_lock": Lock}


@hookimpl
def provide_backends() -> dict[str, type]:
    return {"toy_paint": Paint}


@hookimpl
def provide_optimizers() -> dict[str, type]:
    return {"toy_prefix": Prefix}


@hookimpl
def provide_middlewares() -> dict[str, type]:
    return {"toy_gate": Gate}


@hookimpl
def provide_storages() -> dict[str, type]:
    return {"toy_shelf": Shelf, "toy_stack": Stack}


@hookimpl
def provide_observers() -> dict[str, type]:
    return {"toy_diary": Diary}
