"""The workflow as a template: where a request goes in, and what a filled one looks like."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from gateway import FormField, ImageRequest, repaint_mask

SLOT = re.compile(r"%(prompt|negative_prompt|width|height|seed|steps|guidance|n|model|image(?:_[2-9])?|mask)%")
DEFAULTS: Mapping[str, Any] = {
    "negative_prompt": "",
    "width": 1024,
    "height": 1024,
    "seed": 0,
    "steps": 20,
    "guidance": 7.0,
    "n": 1,
}


def read_nodes(workflow: Path | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(workflow, Mapping):
        nodes: Any = orjson.loads(orjson.dumps(workflow, option=orjson.OPT_NON_STR_KEYS))
    else:
        try:
            nodes = orjson.loads(workflow.read_bytes())
        except OSError as error:
            raise ValueError(f"workflow: cannot read {workflow.name} ({error.strerror})") from error
        except orjson.JSONDecodeError as error:
            raise ValueError(f"workflow: {workflow.name} is not JSON") from error
    if not isinstance(nodes, dict) or not all(
        isinstance(node, dict) and "class_type" in node for node in nodes.values()
    ):
        raise ValueError("workflow: not in API format; use ComfyUI's menu Workflow, Export (API)")
    return nodes


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """Copy *value* with its placeholders replaced; one that is a whole string becomes a value of its own type."""
    if isinstance(value, dict):
        return {name: fill(each, values) for name, each in value.items()}
    if isinstance(value, list):
        return [fill(each, values) for each in value]
    if not isinstance(value, str):
        return value
    whole = SLOT.fullmatch(value)
    if whole:
        return values.get(whole[1], "")
    return SLOT.sub(lambda found: str(values.get(found[1], "")), value)


def input_files(request: ImageRequest) -> list[FormField]:
    """Name the input pictures, the mask last, by what they hold, so that the same picture is kept there once."""
    pictures = [image.data for image in request.images]
    if request.mask:
        pictures.append(repaint_mask(request.mask))
    return [
        FormField("image", data, f"gateway-{hashlib.sha256(data).hexdigest()[:32]}.png", "image/png")
        for data in pictures
    ]
