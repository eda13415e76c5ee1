"""A YAML file as a plain tree of which every key and value still knows its line and column."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.document import Complaint, Document, Place, Steps, dotted, is_secret
from gateway.errors import ConfigError
from gateway.variables import expand

FILE_LIMIT = 256 * 2**10
NODE_LIMIT = 20_000
DEPTH_LIMIT = 50
STANDARD = "tag:yaml.org,2002:"
TAGS = {
    STANDARD + name for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")
}
UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,20})")
BASED = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,16}")
DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
VARIABLE = re.compile(r"\$\{(?:int:)?([A-Za-z_][A-Za-z0-9_]*)")


def read_yaml(content: bytes, name: str, folder: Path, environ: Mapping[str, str]) -> Document:
    """Parse *content*; raise ConfigError if it is no YAML mapping at all, else keep complaints in the document."""
    document = Document(name, folder)
    text = _decode(content, name)
    node = _compose(text, name)
    if node is None:
        raise ConfigError(
            f"{name}:1:1 the file is empty; it needs at least authenticators, backends, storages and models"
        )
    if not isinstance(node, MappingNode):
        found = "a list" if isinstance(node, SequenceNode) else "a single value"
        raise ConfigError(f"{name}:1:1 expected keys and values (server:, backends:, models: …), found {found}")
    document.tree = _Tree(document, environ).mapping(node, (), ())
    return document


def _decode(content: bytes, name: str) -> str:
    if len(content) > FILE_LIMIT:
        raise ConfigError(f"{name}:1:1 larger than {FILE_LIMIT // 2**10} KB; is this the right file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", "replace")
        raise ConfigError(f"{_where(name, before)} not UTF-8 text") from error
    if found := UNPRINTABLE.search(text):
        raise ConfigError(
            f"{_where(name, text[: found.start()])} the character U+{ord(found[0]):04X} has no place here"
        )
    return text


def _where(name: str, before: str) -> str:
    return f"{name}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    yaml.composer.warn_double_anchors = False
    return yaml


def _compose(text: str, name: str) -> Node | None:
    try:
        node: Node | None = _yaml().compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        words = error.problem or error.context or "not YAML"
        hint = "; indent with spaces, not tabs" if "\\t" in words else ""
        raise ConfigError(f"{name}:{place} {' '.join(words.split())}{hint}{_begun(error)}") from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{name}:1:1 not YAML: {type(error).__name__}") from error
    return node


def _begun(error: MarkedYAMLError) -> str:
    """Say where the thing begins whose end was not found: what is wrong stands there, or on the way."""
    began, ended = error.context_mark, error.problem_mark
    if not began or not ended or not error.context or began.line == ended.line:
        return ""
    return f" ({error.context}, begun in line {began.line + 1})"


class _Composer(Composer):
    """Stops at a depth that no configuration needs, before the recursion of the parser itself gives up."""

    nested = 0

    def compose_node(self, parent: Any, index: int) -> Any:
        self.nested += 1
        if self.nested > DEPTH_LIMIT:
            mark = self.parser.peek_event().start_mark
            raise ComposerError(None, None, f"nested deeper than {DEPTH_LIMIT} levels", mark)
        node = super().compose_node(parent, index)
        self.nested -= 1
        return node


class _Tree:
    """Makes plain values of nodes; what is wrong goes into the document, so that the rest is still read."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self.document = document
        self.environ = environ
        self.nodes = 0

    def value(self, node: Node, steps: Steps, above: tuple[int, ...]) -> Any:
        mark = node.start_mark
        empty = isinstance(node, ScalarNode) and node.style is None and not node.value
        here = self.document.keys.get(steps) if empty else None
        self.document.values[steps] = here or Place(mark.line + 1, mark.column + 1)
        self.nodes += 1
        self._check(node, above)
        if isinstance(node, MappingNode):
            return self.mapping(node, steps, above)
        if isinstance(node, SequenceNode):
            inside = (*above, id(node))
            return [self.value(item, (*steps, index), inside) for index, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)  # there is no fourth kind
        return self.scalar(node, steps)

    def mapping(self, node: MappingNode, steps: Steps, above: tuple[int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, int] = {}
        inside = (*above, id(node))
        for key, item in self._pairs(node, above):
            name, line = self._key(key, steps), key.start_mark.line + 1
            if name is None:
                continue
            at = (*steps, name)
            if name in first:
                self.document.complaints.append(
                    Complaint(
                        Place(line, key.start_mark.column + 1), dotted(at), f"given twice; first in line {first[name]}"
                    )
                )
                continue
            first[name] = line
            self.document.keys[at] = Place(line, key.start_mark.column + 1)
            values[name] = self.value(item, at, inside)
        return values

    def scalar(self, node: ScalarNode, steps: Steps) -> Any:
        text: str = node.value
        if node.style is None and node.tag != STANDARD + "str":
            plain = _plain(text)
            if not isinstance(plain, str):
                if not isinstance(plain, bool) and plain is not None:
                    self.document.written[steps] = text
                return plain
        try:
            expanded = expand(text, self.environ, self.document.folder)
        except ValueError as error:
            self.document.complain(steps, str(error))
            self.document.broken.add(steps)
            return text
        if names := VARIABLE.findall(text):
            self.document.behind[steps] = ", ".join(names)
            self.document.empty |= set() if expanded.text else {steps}
        self.document.hide(expanded.hidden)
        if expanded.hidden:
            self.document.variables.add(steps)
        elif is_secret(steps) and text and "${" not in text:
            self.document.hide([text])
            self.document.literal_secrets |= not text.startswith("sha256:")
        return expanded.text

    def _pairs(self, node: MappingNode, above: tuple[int, ...]) -> Sequence[tuple[Node, Node]]:
        """Put the pairs of ``<<: *other`` after the node's own, so that its own win; *other* may do so itself."""
        self.nodes += 1
        self._check(node, above)
        own = [pair for pair in node.value if pair[0].tag != STANDARD + "merge"]
        names = {key.value for key, _ in own if isinstance(key, ScalarNode)}
        for key, value in node.value:
            if key.tag != STANDARD + "merge":
                continue
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(source, MappingNode):
                    raise self._refused(key, "<< takes a mapping, as in <<: *name")
                pairs = self._pairs(source, (*above, id(node)))
                added = [pair for pair in pairs if isinstance(pair[0], ScalarNode) and pair[0].value not in names]
                names.update(pair[0].value for pair in added)
                own += added
        return own

    def _key(self, key: Node, steps: Steps) -> str | None:
        if isinstance(key, ScalarNode):
            return str(key.value)
        mark = key.start_mark
        place = Place(mark.line + 1, mark.column + 1)
        self.document.complaints.append(Complaint(place, dotted(steps), "a key must be plain text"))
        return None

    def _check(self, node: Node, above: tuple[int, ...]) -> None:
        if id(node) in above:
            raise self._refused(node, "an alias that contains itself")
        if self.nodes > NODE_LIMIT:
            raise self._refused(node, f"more than {NODE_LIMIT} values, aliases counted as what they stand for")
        if len(above) > DEPTH_LIMIT:
            raise self._refused(node, f"nested deeper than {DEPTH_LIMIT} levels")
        if node.tag not in TAGS:
            raise self._refused(node, f"the tag {str(node.tag).removeprefix(STANDARD)!r} is not used here")

    def _refused(self, node: Node, message: str) -> ConfigError:
        mark = node.start_mark
        return ConfigError(f"{self.document.name}:{mark.line + 1}:{mark.column + 1} {message}")


def _plain(text: str) -> str | int | float | bool | None:
    """Read an unquoted scalar by YAML 1.2's few rules; dates, ``no``, ``12:30`` and ``1_000`` stay texts."""
    if text in WORDS:
        return WORDS[text]
    if WHOLE.fullmatch(text):
        return int(text)
    if BASED.fullmatch(text):
        return int(text, 0)
    number = float(text) if DECIMAL.fullmatch(text) else math.inf
    return number if math.isfinite(number) else text
