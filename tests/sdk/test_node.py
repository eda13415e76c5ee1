"""OpenAI's Node SDK against the running gateway, installed for the test into a folder of its own."""

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.gateways import CALLER_KEY

SCRIPT = Path(__file__).with_name("node_client.mjs")
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


@pytest.mark.timeout(240)
async def test_the_node_sdk_makes_pictures_in_every_way(installed_sdk, served):
    """By chat, by stream, by its helper and by images.generate; models and errors are read as well."""
    gateway, model = served
    given = json.dumps({"base": gateway.base, "key": CALLER_KEY, "model": model})
    process = await asyncio.create_subprocess_exec(
        "node", str(SCRIPT), str(installed_sdk), given, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    told = json.loads(out)

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
