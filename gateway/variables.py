"""``${NAME}``, ``${NAME:-default}``, ``${int:NAME:-4}``, ``${file:/path}``, ``$$`` in texts of a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FILE_LIMIT = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Expanded:
    """A text after replacement, and the *hidden* parts that came from outside the file and may be secrets."""

    text: str
    hidden: tuple[str, ...] = field(default=(), repr=False)


def expand(text: str, environ: Mapping[str, str], folder: Path) -> Expanded:
    """Replace what stands behind each ``$``; raise ValueError that names the variable, never its value.

    What comes in is not looked at again, so a variable may hold any characters; only a default may hold variables.
    """
    parts: list[str] = []
    hidden: list[str] = []
    position = 0
    while (dollar := text.find("$", position)) >= 0:
        parts.append(text[position:dollar])
        if text.startswith("${", dollar):
            end = _closing_brace(text, dollar)
            found = _look_up(text[dollar + 2 : end], environ, folder)
            parts.append(found.text)
            hidden += found.hidden
            position = end + 1
        else:
            parts.append("$")
            position = dollar + (2 if text.startswith("$$", dollar) else 1)
    parts.append(text[position:])
    return Expanded("".join(parts), tuple(hidden))


def _closing_brace(text: str, start: int) -> int:
    depth = 0
    for found in re.finditer(r"\$\{|\}", text[start:]):
        depth += 1 if found[0] == "${" else -1
        if depth == 0:
            return start + found.start()
    raise ValueError("a ${ without its }; write $$ for a plain dollar sign")


def _look_up(inner: str, environ: Mapping[str, str], folder: Path) -> Expanded:
    if inner.startswith("file:"):
        content = _read(inner.removeprefix("file:"), folder)
        return Expanded(content, (content,))
    if inner.startswith("int:"):
        return _whole_number(inner.removeprefix("int:"), environ, folder)
    name, separator, default = inner.partition(":-")
    if not NAME.fullmatch(name):
        raise ValueError("not a variable; write ${NAME}, ${NAME:-default}, ${file:/path}, or $$ for a dollar sign")
    value = environ.get(name)
    if separator and not value:
        return expand(default, environ, folder)
    if value is None:
        raise ValueError(f"variable {name} is not set; set it, or give a default: ${{{name}:-…}}")
    return Expanded(value, (value,) if value else ())


def _whole_number(inner: str, environ: Mapping[str, str], folder: Path) -> Expanded:
    """Read the number that a variable begins with, as ``parseInt`` does; 0 and no number give the default."""
    name, separator, default = inner.partition(":-")
    if not separator or not NAME.fullmatch(name):
        raise ValueError("a whole number takes a default: ${int:NAME:-60}")
    found = re.match(r"\s*\+?0*([1-9][0-9]{0,17})", environ.get(name, ""))
    return Expanded(found[1]) if found else expand(default, environ, folder)


def at_home(path: Path) -> Path:
    """Give *path* with ``~`` resolved; raise ValueError where there is no such home."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: no home folder is known for {path.parts[0]}; write the whole path") from None


def _read(name: str, folder: Path) -> str:
    path = folder / at_home(Path(name))
    try:
        if not path.is_file():
            raise ValueError(f"${{file:{name}}}: " + ("not a plain file" if path.exists() else "there is no such file"))
        with path.open("rb") as file:
            content = file.read(FILE_LIMIT + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise ValueError(f"${{file:{name}}}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"${{file:{name}}}: not UTF-8 text") from error
    if len(content) > FILE_LIMIT:
        raise ValueError(f"${{file:{name}}}: larger than {FILE_LIMIT // 2**10} KB")
    return text.removesuffix("\n").removesuffix("\r")
