"""The typed configuration: the fields are the YAML keys, the defaults are documentation."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gateway.options import (
    ByteSize,
    Duration,
    Keys,
    MemoryOption,
    Networks,
    Origins,
    Secret,
    SizeOption,
    SpoolOption,
    StateOption,
    Url,
    Words,
    check_host,
    parse_host_port,
)
from gateway.values import Size

Fit = Literal["crop", "pad", "scale", "leave"]
Language = Literal["en", "zh-cn", "zh-hant", "ja", "es", "fr", "ru", "de"]
KINDS = ("authenticators", "optimizers", "middlewares", "backends", "storages", "observers")

RATIOS = {
    "1:1": Size(1024, 1024),
    "1:2": Size(512, 1024),
    "3:2": Size(768, 512),
    "3:4": Size(768, 1024),
    "16:9": Size(1024, 576),
    "9:16": Size(576, 1024),
    "4:3": Size(1024, 768),
    "2:3": Size(512, 768),
    "2:1": Size(1024, 512),
    "21:9": Size(1344, 576),
    "9:21": Size(576, 1344),
}


@dataclass(frozen=True)
class Server:
    """Where the gateway listens and what it believes of its surroundings.

    *public_url* is how browsers reach it; without it the Host header counts, and ``X-Forwarded-*`` only from
    *trusted_proxies* (addresses or networks). *origins* are the web pages that may call it, ``*`` for all.
    *error_codes* renames errors for clients of an older service, for all fields or for one of them:
    ``model_not_found: 400 unsupported_image_model``, ``invalid_value.model: 400 missing_model_field``.
    With *any_content_type* a body is read as JSON whatever type it is sent with, for clients that say none: a browser
    says ``text/plain`` then.
    Beyond *max_connections* clients are sent away with a 503; the system's limit of open files may allow fewer.
    A client that takes nothing of its answer for *send_timeout* is cut off.
    A stop waits *shutdown_timeout* for running jobs, and at least *drain_delay*, with health at 503 meanwhile.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    public_url: Url | None = None
    origins: Origins = ("*",)
    trusted_proxies: Networks = ()
    max_body: ByteSize = 25 * 2**20
    body_timeout: Duration = 30
    keep_alive: Duration = 75
    any_content_type: bool = False
    max_connections: Annotated[int, Field(ge=1)] = 10_000
    send_timeout: Duration = 30
    shutdown_timeout: Duration = 60
    drain_delay: Duration = 0
    error_codes: Mapping[str, Annotated[str, Field(pattern=r"^[45][0-9][0-9] [a-z_]+$")]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.001 <= self.send_timeout <= 86_400:
            raise ValueError("send_timeout must be from 1ms to 1d: who reads nothing would hold a connection for ever")
        check_host(self.host)


@dataclass(frozen=True)
class Jobs:
    """Limits of the work in progress; *per_caller* 0 means that one caller may use all places;
    *per_backend* bounds the calls at once of a backend component by its name.

    *memory* is the bytes this process may take: above 85 % of them new pictures are refused with a 503, while what runs
    ends and what is stored is served. ``auto`` takes the limit that the system has set, if any; ``off`` none.
    *keep* is how long a finished job can be asked for. *keep_alive* is after how long a waiting plain call is sent
    white space, so that proxies do not cut it; 0 switches that off. *accept_after* answers such a call with a 202 and
    the job's place instead, after so long; 0 never does. *state* is a file, or a ``redis://`` URL, that finished jobs
    survive in. *spool* is a folder where pictures that were paid for lie while their storage takes none, so that they
    survive, too, up to *spool_limit* bytes (0 is no bound), or ``off`` to keep them in memory only. *webhook_keys* sign
    the messages to callers' servers.
    """

    running: Annotated[int, Field(ge=1)] = 64
    waiting: Annotated[int, Field(ge=0)] = 1024
    per_caller: Annotated[int, Field(ge=0)] = 0
    per_backend: Mapping[str, Annotated[int, Field(ge=1)]] = field(default_factory=dict)
    timeout: Duration = 600
    memory: MemoryOption = "auto"
    keep: Duration = 3600
    keep_alive: Duration = 50
    accept_after: Duration = 0
    state: StateOption = None
    spool: SpoolOption = Path(".image-gateway/spool")
    spool_limit: ByteSize = 2**30
    webhook_keys: Keys = ()

    def __post_init__(self) -> None:
        if not self.timeout:
            raise ValueError("timeout must not be 0: a job that hangs would hold its place for ever")
        if self.accept_after and self.keep_alive and self.accept_after > self.keep_alive:
            raise ValueError("accept_after must not be longer than keep_alive: then a 200 has begun")
        if self.memory == 0:
            raise ValueError("memory must not be 0: nothing could ever be made; write off for no limit")
        for key in self.webhook_keys:
            if key.startswith("whsec_"):
                try:
                    b64decode(key.removeprefix("whsec_"), validate=True)
                except ValueError:
                    raise ValueError("webhook_keys: a key that begins with whsec_ must go on in base64") from None


@dataclass(frozen=True)
class Chat:
    """How chat answers look. *template* replaces the language's text; *tasks* ``text`` answers the title, tag and
    summary prompts that chat clients send by themselves with words instead of a picture; *progress* says where the
    steps of a stream are told; *ratios* are added to the known ones; *legacy_ratio* keeps Worker A's reading. *usage*
    counts tokens, or the ``characters`` of prompt and answer; *id_prefix* begins the id of each answer. What a chat
    model says instead of a picture is an error, or with *refusals* ``words`` the answer."""

    language: Language = "en"
    template: str | None = None
    progress: Literal["content", "reasoning", "off"] = "content"
    tasks: Literal["text", "picture"] = "text"
    ratios: Mapping[str, SizeOption] = field(default_factory=dict)
    default_size: SizeOption = Size(1024, 1024)
    legacy_ratio: bool = False
    usage: Literal["tokens", "characters"] = "tokens"
    refusals: Literal["error", "words"] = "error"
    id_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")] = "chatcmpl-"
    ping: Duration = 12


@dataclass(frozen=True)
class Fetch:
    """What the address guard lets through for URLs that did not come from this file.

    *allow* are ``host:port`` pairs that may be fetched although their address is private or the port unusual.
    """

    allow: Words = ()
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (80, 443)
    limit: ByteSize = 32 * 2**20
    timeout: Duration = 30
    pixels: Annotated[int, Field(ge=1)] = 50_000_000

    def __post_init__(self) -> None:
        for entry in self.allow:
            parse_host_port(entry)
        if not self.timeout:
            raise ValueError("timeout must not be 0: a slow host would hold its place for ever")


@dataclass(frozen=True)
class Proxy:
    """``GET /image-proxy``: *hosts* may be asked for by ``url=``, other URLs only by links that *keys* sign (the first
    signs, all verify). The same keys sign links to copies of stored pictures in sizes that are not listed."""

    keys: tuple[Secret, ...] = ()
    hosts: Words = ()

    def __post_init__(self) -> None:
        if any(len(key) < 16 for key in self.keys):
            raise ValueError("each key must have at least 16 characters")
        if any(not re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", host) for host in self.hosts):
            raise ValueError("write hosts as images.example.com or *.example.com, without scheme, port and path")


@dataclass(frozen=True)
class Serving:
    """How stored pictures leave: *sizes* are the widths and heights allowed in ``?w=`` and ``?h=`` without a signature
    (see *proxy*); *negotiate* picks WebP or AVIF by the Accept header; *max_age* bounds ``Cache-Control``; *cache* is
    for derived pictures."""

    sizes: tuple[Annotated[int, Field(ge=1)], ...] = (64, 128, 256, 320, 480, 512, 640, 768, 1024, 1280, 1536, 2048)
    negotiate: bool = False
    max_age: Duration = 604_800
    cache: ByteSize = 64 * 2**20


@dataclass(frozen=True)
class TargetSettings:
    """One way to serve a model. *weight* shares the load with its equals; 0 means only when others cannot.

    *price* is per picture, *price_per_megapixel* per 10**6 pixels, in whatever currency you think in.
    """

    backend: str
    model: str = ""
    weight: Annotated[float, Field(ge=0)] = 1
    fit: Fit | None = None
    price: Annotated[float, Field(ge=0)] | None = None
    price_per_megapixel: Annotated[float, Field(ge=0)] | None = None


@dataclass(frozen=True)
class Defaults:
    """Parameters that a model's requests get when the caller asks for none."""

    size: SizeOption | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    guidance: float | None = None
    seed: int | None = None
    negative_prompt: str | None = None
    quality: str | None = None
    style: str | None = None
    background: str | None = None
    output_format: str | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    moderation: str | None = None


@dataclass(frozen=True)
class ModelSettings:
    """The recipe of a name that callers may ask for; the name may be a pattern (``flux-*``), then ``*`` in a target's
    model stands for what matched. *storage* may be left out when there is only one."""

    backends: tuple[TargetSettings, ...]
    optimizers: Words = ()
    middlewares: Words = ()
    storage: str | None = None
    aliases: Words = ()
    description: str = ""
    owned_by: str = "image-gateway"
    fit: Fit = "crop"
    strict: bool = False
    retry_sent: bool = False
    defaults: Defaults = field(default_factory=Defaults)


@dataclass(frozen=True)
class Settings:
    """A whole configuration, checked; *components* are made by the registry: kind → name → instance."""

    server: Server = field(default_factory=Server)
    jobs: Jobs = field(default_factory=Jobs)
    chat: Chat = field(default_factory=Chat)
    fetch: Fetch = field(default_factory=Fetch)
    proxy: Proxy = field(default_factory=Proxy)
    serving: Serving = field(default_factory=Serving)
    models: Mapping[str, ModelSettings] = field(default_factory=dict)
    default_model: str | None = None
    unknown_model: Literal["refuse", "default"] = "refuse"
