"""OpenAI's Node SDK against the running gateway, installed for the test into a folder of its own."""

import asyncio
import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fake_upstream import png
from tests.gateways import CALLER_KEY, DEMO, start

SCRIPT = Path(__file__).with_name("node_client.mjs")
PICTURES = SCRIPT.with_name("node_pictures.mjs")
PNG = "89504e47"
LINK = re.compile(r"!\[[^\]]*\]\((http://127\.0\.0\.1:\d+/image/[0-9a-f]{40}\.(?:png|jpg))\)")


@pytest.fixture(scope="session")
def installed_sdk(tmp_path_factory):
    """A folder with the SDK in it."""
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        pytest.skip("npm and node are not installed, so the Node SDK cannot be tried")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true}')
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "openai"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return folder


async def ran(script, installed_sdk, **given):
    """Run a script with the SDK, and give what it printed."""
    process = await asyncio.create_subprocess_exec(
        "node", str(script), str(installed_sdk), json.dumps(given), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


@pytest.mark.timeout(240)
async def test_the_node_sdk_makes_pictures_in_every_way(installed_sdk, served):
    """By chat, by stream, by its helper and by images.generate; models and errors are read as well."""
    gateway, model = served
    told = await ran(SCRIPT, installed_sdk, base=gateway.base, key=CALLER_KEY, model=model)

    for text in (told["chat"], told["stream"], told["helper"]):
        link = LINK.search(text)[1]
        assert (await gateway.get(link.removeprefix(gateway.base), headers={"Authorization": ""})).status == 200
    assert told["finish"] == "stop"
    assert (await gateway.get(told["url"].removeprefix(gateway.base))).status == 200
    assert told["base64"] in {"89504e47", "ffd8ffe0", "ffd8ffdb"}
    assert told["one"] == model
    assert model in told["models"]
    assert told["wrong"] == [401, "invalid_api_key", True]
    # Worker A draws whatever model is named; Worker B has a code of its own.
    assert told["unknown"] in ([404, "model_not_found", "model"], [400, "unsupported_image_model", "model"], None)
    assert told["empty"] == [400, "invalid_request_error", "messages"]


@pytest.mark.timeout(240)
async def test_the_node_sdk_edits_streams_and_uses_the_image_tool(installed_sdk, aiohttp_server, tmp_path):
    """Previews, masks, several pictures, variations, responses plain, streamed and by its helper, and their errors."""
    gateway = await start(aiohttp_server, DEMO, tmp_path)
    picture = base64.b64encode(png(64, 64)).decode()
    told = await ran(PICTURES, installed_sdk, base=gateway.base, key=CALLER_KEY, model="demo", picture=picture)

    assert told["generated"] == [
        ["image_generation.partial_image", 0, PNG, "64x64"],
        ["image_generation.partial_image", 1, PNG, "64x64"],
        ["image_generation.completed", None, PNG, "64x64"],
    ]
    assert told["edited"] == [1, PNG, "64x64"]
    assert told["several"] == [PNG, PNG]
    assert told["streamed"] == [["image_edit.partial_image", PNG], ["image_edit.completed", PNG]]
    assert told["broken"] == [400, "invalid_image", "image"]
    assert (await gateway.get(told["varied"].removeprefix(gateway.base))).body.startswith(bytes.fromhex(PNG))
    assert told["answered"] == ["completed", 1, "completed", PNG, "Here is the picture."]
    assert told["steps"][0] == "response.created"
    assert told["steps"].count("response.image_generation_call.partial_image") == 2
    assert told["steps"][-2:] == ["response.output_item.done", "response.completed"]
    assert told["numbered"]
    assert told["last"] == PNG
    assert told["helper"] == told["changed"] == ["completed", PNG]
    assert told["unserved"] == [400, "unsupported_tools", "tools"]
    assert told["raw"] == [200, True]
    assert told["same"]
    assert told["left"] == "APIUserAbortError"
