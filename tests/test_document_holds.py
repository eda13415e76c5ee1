"""Thousands of calls made up from the OpenAPI document, good and bad: no fault, no answer that it does not know.

``GATEWAY_FUZZ=500 pytest tests/test_document_holds.py`` makes up 500 for every operation, others each time, without end
of patience; without it there are few, and always the same.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gateway.endpoints.picture_fields import SPELLINGS
from gateway.openapi_fields import LINK, picture_fields
from tests.canaries import CALLER_KEY
from tests.fake_upstream import png
from tests.fronts.conftest import serving

ROOT = Path(__file__).parent.parent
PICTURE = "data:image/png;base64," + base64.b64encode(png(64, 64)).decode()
MANY = os.environ.get("GATEWAY_FUZZ", "")
YAML = f"""
server: {{{{port: {{port}}}}}}
authenticators: {{{{keys: {{{{use: api_keys, keys: [{CALLER_KEY}]}}}}}}}}
backends: {{{{here: {{{{use: demo}}}}}}}}
storages: {{{{here: {{{{use: memory}}}}}}}}
models: {{{{demo: {{{{backends: [{{{{backend: here}}}}], defaults: {{{{size: 64x64}}}}}}}}}}}}
unknown_model: default
proxy: {{{{keys: [0123456789abcdef0123456789abcdef]}}}}
"""
LENIENT = ("positive_data_acceptance",)
"""Not held: a call may fit every schema and still be none, as a width without a height."""
DECISIVE = {"Idempotency-Key", "X-Request-Timeout"}


@pytest.mark.timeout(0 if MANY else 240)
async def test_the_document_holds_for_whatever_can_be_made_up(tmp_path: Path) -> None:
    """No 5xx, no status and no shape that is not in the document, no forbidden value taken, no key left unasked for."""
    with serving(tmp_path, YAML) as gateway:
        base = f"http://127.0.0.1:{gateway.port}"
        document = await asyncio.to_thread(fetched, f"{base}/openapi.json")
        (tmp_path / "document.json").write_text(json.dumps(document))
        key = await asyncio.to_thread(drawn, base)
        (tmp_path / "strict.json").write_text(json.dumps(strict(document, key.partition(".")[0])))
        command = [
            *(sys.executable, "-W", "ignore", "-m", "schemathesis.cli", "run", str(tmp_path / "strict.json")),
            *("--url", base, "--header", f"Authorization: Bearer {CALLER_KEY}", "--exclude-checks", ",".join(LENIENT)),
            *("--continue-on-failure", "--no-color", "--output-truncate", "false", "--warnings", "off"),
            *("--request-timeout", "60"),
            *("--report", "har", "--report-har-path", str(tmp_path / "calls.har")),
            *(("-n", MANY) if MANY else ("-n", "5", "--generation-deterministic", "--no-shrink")),
        ]
        environ = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.schema_checks",
            "CHECKED_DOCUMENT": str(tmp_path / "document.json"),
            "PYTHONPATH": str(ROOT),
        }
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said = (await process.communicate())[0].decode()
        log = gateway.log()

    tried = re.search(r"(\d+) generated", said)
    assert process.returncode == 0, said[-20_000:]
    assert tried, said
    assert int(tried[1]) > 1_000
    assert "Traceback" not in log, log[-3_000:]


def fetched(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as response:
        document: dict[str, Any] = json.load(response)
    return document


def strict(document: dict[str, Any], key: str) -> dict[str, Any]:
    """Leave out what would excuse any answer, and what would have nearly every call refused for one and the same thing.

    *key* is that of a picture there is.
    """
    document = json.loads(json.dumps(document).replace("https://example.com/fox.png", PICTURE))
    for path, found in document["paths"].items():
        for method, operation in found.items():
            del operation["responses"]["default"]
            for response in operation["responses"].values():
                # A stream has no schema of its own; see `schema_checks`.
                response.get("content", {}).get("text/event-stream", {}).pop("schema", None)
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "key" and method != "delete":
                    parameter["schema"] = {"enum": [key]}
            # With one key for all, all but the first would be conflicts; most times are too short for a picture.
            kept = [each for each in operation.get("parameters", ()) if each["name"] not in DECISIVE]
            operation["parameters"] = operation["parameters"] if path.endswith("generations") else kept
    for schema in document["components"]["schemas"].values():
        fields = schema.get("properties", {})
        # Of two spellings of one field the other is not even read.
        fields |= {name: {} for name in SPELLINGS if name in fields}
        # An address made up is none; a mask needs its picture.
        fields |= {name: {"type": "null"} for name in ("webhook", "input_image_mask") if name in fields}
    # A chat call drops what it cannot read, and its receipt tells.
    chat = document["components"]["schemas"]["ChatRequest"]["properties"]
    chat |= {name: {} for name in (*picture_fields(), "stream_options") if name != "model"}
    result: dict[str, Any] = linked(document)
    return result


def linked(value: Any) -> Any:
    """Have every link to a picture lead to one."""
    if isinstance(value, list):
        return [linked(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("description") == LINK["description"]:
        return {"enum": [PICTURE]}
    return {name: linked(each) for name, each in value.items()}


def drawn(base: str) -> str:
    """Draw a picture; give its key."""
    body = json.dumps({"prompt": "a fox", "response_format": "url"}).encode()
    headers = {"Authorization": f"Bearer {CALLER_KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{base}/v1/images/generations", body, headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        url: str = json.load(response)["data"][0]["url"]
    return url.rpartition("/")[2]
