"""Types for options as people write them: ``30m``, ``2MiB``, ``20/minute``, ``1024x576``, ``key1,key2``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from gateway.redis_url import check_redis_url
from gateway.values import Secret as SecretText
from gateway.values import Size

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
REDIS = ("redis://", "rediss://", "unix://")
"""How the URLs of Redis and Valkey begin; any other place is a file."""
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#]*")
NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)")


def parse_duration(value: Any) -> float:
    """Read seconds from a number or from text such as ``90``, ``1.5s``, ``30m``, ``1h30m``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        seconds = _sum_of_parts(value, SECONDS, "a duration", "30s, 5m, 1h30m")
    if not 0 <= seconds < 10**10:
        raise ValueError("a duration must not be negative or absurdly long")
    return seconds


def parse_bytes(value: Any) -> int:
    """Read a number of bytes from a number or from text such as ``512``, ``200kB``, ``64MiB``."""
    if isinstance(value, int) and not isinstance(value, bool):
        count: float = value
    else:
        count = _sum_of_parts(value, BYTES, "a size in bytes", "200kB, 64MiB, 1GiB")
    if not 0 <= count < 2**63:
        raise ValueError("a size in bytes must not be negative or absurdly large")
    return int(count)


def _sum_of_parts(value: Any, units: dict[str, float] | dict[str, int], what: str, examples: str) -> float:
    text = str(value).strip() if isinstance(value, str) else ""
    parts = NUMBER.findall(text)
    plain = units[next(iter(units))] if units is BYTES else 1
    if not parts or NUMBER.sub("", text).strip() or any(unit and unit.lower() not in units for _, unit in parts):
        raise ValueError(f"not {what}; write it like {examples}")
    return sum(float(number) * (units[unit.lower()] if unit else plain) for number, unit in parts)


def parse_host_port(value: str) -> tuple[str, int]:
    """Read ``minio.local:9000``, ``10.0.0.5:80`` or ``[::1]:80``; the host comes in lower case and without brackets."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/?#@\[\]\\%]+)):([0-9]{1,5})", value)
    if not found or not 0 < int(found[3]) < 65536:
        raise ValueError(f"{value!r} is not host:port; write it like minio.local:9000 or [::1]:80")
    host = str(ip_address(found[1])) if found[1] else found[2].lower().rstrip(".")
    return host, int(found[3])


def bracketed(host: str) -> str:
    """Write a host as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def check_host(value: str) -> None:
    """Raise ValueError for what nothing can listen on; an empty host would listen on every address."""
    try:
        named = value.strip() == value != "" and value.isprintable() and bool(value.encode("idna"))
    except UnicodeError:
        named = False
    if not named:
        raise ValueError(
            "host must be an address or a name, such as 127.0.0.1 (this machine alone) or 0.0.0.0 (every address)"
        )


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value not in ("*", "null") and not ORIGIN.fullmatch(value):
            raise ValueError(f"{value!r} is no origin, as browsers send it; write it like https://app.example.com or *")
    return values


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f"{value!r} is no address or network; write it like 10.0.0.5 or 10.0.0.0/8") from None
    return values


@dataclass(frozen=True, slots=True)
class Rate:
    """*count* per *period* seconds."""

    count: int
    period: float

    @classmethod
    def parse(cls, value: Any) -> Rate:
        """Read ``20/minute``; raise ValueError for anything else."""
        found = re.fullmatch(r"\s*([0-9]+)\s*/\s*([0-9]*)\s*([a-z]+?)s?\s*", value) if isinstance(value, str) else None
        if isinstance(value, Rate):
            return value
        if not found or found[3] not in PERIODS or not int(found[1]) or not int(found[2] or 1):
            raise ValueError(f"not a rate; write it like 20/minute (periods: {', '.join(PERIODS)})")
        return cls(int(found[1]), PERIODS[found[3]] * int(found[2] or 1))


class Secret(SecretText):
    """The same hidden string, as an option type for pydantic."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


def _split(value: Any) -> Any:
    """Split texts on commas, so that one environment variable may hold several."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Iterable) or isinstance(value, dict):
        return value
    return [
        part.strip() if isinstance(part, str) else part
        for item in value
        for part in (item.split(",") if isinstance(item, str) else [item])
    ]


def _without_empty(value: Any) -> Any:
    """An empty variable means an empty list, not a list of one empty word."""
    return [item for item in value if item != ""] if isinstance(value, list) else value


def split_keys(value: Any) -> Any:
    """Split texts on commas; between and after commas there may be nothing, but a text without any key is refused."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Iterable) or isinstance(value, dict):
        return value
    keys: list[Any] = []
    for item in value:
        parts = [part.strip() for part in item.split(",") if part.strip()] if isinstance(item, str) else [item]
        if not parts:
            raise ValueError("a key is empty; an unset or empty variable is not a key")
        keys += parts
    return keys


def _size(value: Any) -> Any:
    return Size.parse(str(value)) if isinstance(value, (str, int, float)) else value


def _memory(value: Any) -> int | str:
    if value in ("auto", "off"):
        return str(value)
    try:
        return parse_bytes(value)
    except ValueError:
        raise ValueError("not auto, off or a size in bytes; write it like auto, 512MiB, 2GiB") from None


def _spool(value: Any) -> Any:
    if value == "off":
        return None
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError("must name a folder; write off for none")
    return value


def _url(value: Any) -> Any:
    """Take off white space, which variables often end with; refuse what is no URL now and not at the first call."""
    if not isinstance(value, str):
        return value
    value = value.strip()
    if value and not re.fullmatch(r"https?://[^\s/?#]+(?:[/?#]\S*)?", value):
        raise ValueError("not a URL; it begins with http:// or https:// and holds no white space")
    if "@" in re.split("[/?#]", value.partition("://")[2])[0]:
        # The library would send them beside the key, or not at all, and an answer may repeat them where no mask looks.
        raise ValueError("a URL must bear no user and password; there are options for keys")
    return value


def _state(value: Any) -> Path | Secret | None:
    """Read where a state lies: an address of Redis, which may hold a password, or a file."""
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str) or "\0" in value or ("://" in value and not value.startswith(REDIS)):
        raise ValueError("not a file, nor an address of Redis like redis://:PASSWORD@HOST:6379/0")
    if value.startswith(REDIS):
        check_redis_url(value)
        return Secret(value)
    return Path(value) if value else None


def _moment(value: Any) -> Any:
    """Refuse what would be taken for seconds, or milliseconds, since 1970: nobody writes a date like that."""
    if isinstance(value, int | float) or (isinstance(value, str) and re.fullmatch(r"\s*[-+]?[0-9._]*\s*", value)):
        raise ValueError("not a date or a time; write it like 2027-01-31 or 2027-01-31T12:00:00Z")
    return value


def _json(kind: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": kind if kind == "string" else [kind, "string"], "examples": list(examples)})


Duration = Annotated[float, BeforeValidator(parse_duration), _json("number", "30s", "5m", "1h30m")]
ByteSize = Annotated[int, BeforeValidator(parse_bytes), _json("integer", "200kB", "64MiB")]
MemoryOption = Annotated[int | str, BeforeValidator(_memory), _json("integer", "auto", "off", "512MiB")]
SpoolOption = Annotated[Path | None, BeforeValidator(_spool)]
StateOption = Annotated[Path | Secret | None, PlainValidator(_state), WithJsonSchema({"type": ["string", "null"]})]
RateOption = Annotated[Rate, BeforeValidator(Rate.parse), _json("string", "20/minute"), PlainSerializer(str)]
SizeOption = Annotated[Size, BeforeValidator(_size), _json("string", "1024x576"), PlainSerializer(str)]
_TEXTS = WithJsonSchema({"type": ["array", "string"], "items": {"type": "string"}})
Keys = Annotated[tuple[Secret, ...], BeforeValidator(split_keys), _TEXTS]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Url = Annotated[str, BeforeValidator(_url)]
Words = Annotated[tuple[str, ...], BeforeValidator(_without_empty), BeforeValidator(_split), _TEXTS]
Origins = Annotated[Words, AfterValidator(_origins)]
Networks = Annotated[Words, AfterValidator(_networks)]
