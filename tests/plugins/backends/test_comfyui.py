"""ComfyUI: the workflow is filled, followed on the websocket, fetched, and interrupted when nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from gateway_plugins.backends.comfyui import ComfyUI

from gateway import (
    BrokenAnswerError,
    Image,
    ImageRequest,
    MisconfiguredError,
    Secret,
    Size,
    UpstreamError,
    UpstreamTimeoutError,
)
from tests.fake_upstream import png
from tests.plugins.backends.vendors import PICTURE, QUICK, WORKFLOW, Told, draw, open_vendor

ASKED = ImageRequest("a cat", seed=1)
PLAIN: dict[str, Any] = {
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "old words"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}},
    "9": {"class_type": "SaveImage", "inputs": {}},
}
EDIT: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "%image%"}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "%image_2%"}},
    "3": {"class_type": "LoadImageMask", "inputs": {"image": "%mask%", "channel": "red"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "%prompt%"}},
}


def message(kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "data": data}


def test_placeholders_are_filled_with_values_of_their_type():
    """A whole placeholder becomes a number, one within words stays words."""
    request = ImageRequest("a cat", size=Size(768, 512), seed=2**60, steps=8, guidance=3.5, negative_prompt="dogs", n=2)
    outgoing = ComfyUI(WORKFLOW, "http://gpu:8188/").outgoing(request)
    nodes = outgoing.json["prompt"]

    assert (outgoing.method, outgoing.url) == ("POST", "http://gpu:8188/prompt")
    assert set(outgoing.json) == {"prompt", "client_id"}
    assert nodes["3"]["inputs"] == {"seed": 2**60, "steps": 8, "cfg": 3.5, "model": ["4", 0], "denoise": 1}
    assert nodes["5"]["inputs"] == {"width": 768, "height": 512, "batch_size": 2}
    assert nodes["6"]["inputs"]["text"] == "a cat, masterpiece"
    assert nodes["7"]["inputs"]["text"] == "dogs"
    assert WORKFLOW["6"]["inputs"]["text"] == "%prompt%, masterpiece"  # type: ignore[index]  # a nested mapping


def test_what_is_left_open_gets_a_default():
    """The component's before the built-in ones."""
    nodes = ComfyUI(WORKFLOW, defaults={"steps": 4}).outgoing(ASKED).json["prompt"]

    assert nodes["3"]["inputs"]["steps"] == 4
    assert nodes["5"]["inputs"] == {"width": 1024, "height": 1024, "batch_size": 1}
    assert nodes["7"]["inputs"]["text"] == ""


def test_a_prompt_with_placeholders_in_it_stays_as_it_is():
    """Nothing is filled twice."""
    nodes = ComfyUI(WORKFLOW).outgoing(ImageRequest("100%width% of %seed% \\1", seed=1)).json["prompt"]

    assert nodes["6"]["inputs"]["text"] == "100%width% of %seed% \\1, masterpiece"


def test_inputs_name_the_places_instead():
    """What is not asked keeps the workflow's own value; one thing may go to several places."""
    backend = ComfyUI(PLAIN, inputs={"prompt": ("6.text", "9.filename_prefix"), "width": ("5.width",)})
    nodes = backend.outgoing(ImageRequest("a cat")).json["prompt"]

    assert nodes["6"]["inputs"]["text"] == nodes["9"]["inputs"]["filename_prefix"] == "a cat"
    assert nodes["5"]["inputs"] == {"width": 512, "height": 512}


def test_capabilities_are_what_the_workflow_has_places_for():
    """No place, no parameter: the receipt can say so."""
    full = ComfyUI(WORKFLOW).capabilities("")
    plain = ComfyUI(PLAIN, inputs={"prompt": ("6.text",)}).capabilities("")
    edit = ComfyUI(EDIT).capabilities("")

    assert set(full.accepts) == {"seed", "steps", "guidance", "negative_prompt"}
    assert (full.count, full.inputs, full.partials, full.progress) == (4, 0, True, True)
    assert (plain.sizes, plain.count, dict(plain.accepts)) == ((), 1, {})
    assert (edit.inputs, edit.needs_input, edit.mask) == (2, True, True)


def test_the_workflow_may_be_a_file(tmp_path: Path):
    """As ComfyUI exports it."""
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(WORKFLOW))

    assert ComfyUI(file).outgoing(ASKED).json["prompt"] == ComfyUI(WORKFLOW).outgoing(ASKED).json["prompt"]


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (None, {}, "cannot read workflow.json"),
        ("{", {}, "not JSON"),
        ('{"nodes": [], "links": []}', {}, "Export"),
        ("[]", {}, "Export"),
        (json.dumps(PLAIN), {}, "no place for the prompt"),
        (json.dumps(PLAIN), {"inputs": {"prompt": ("66.text",)}}, "66.text"),
        (json.dumps(PLAIN), {"inputs": {"prompt": ("6",)}}, "no node.input"),
        (json.dumps(PLAIN), {"inputs": {"promt": ("6.text",)}}, "promt"),
        (json.dumps(WORKFLOW), {"output": "99"}, "99"),
    ],
)
def test_a_useless_workflow_is_refused_at_the_start(tmp_path: Path, content: str | None, options: Any, words: str):
    """With what is wrong, and without the machine's paths."""
    file = tmp_path / "workflow.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        ComfyUI(file, **options)

    assert str(tmp_path) not in str(caught.value)


async def test_the_picture_is_fetched_from_the_history():
    """What was saved counts before what was previewed; names are encoded."""
    async with open_vendor("comfyui") as (fake, backend):
        images = await draw(backend, ASKED)

        assert images == [Image(PICTURE, seed=1)]
        assert fake.paths() == ["POST /prompt", "GET /history/j-1", "GET /view"]
        assert fake.last.query == {"filename": "gateway_1.png", "subfolder": "a b", "type": "output"}
        assert fake.calls[0].json["client_id"] in fake.clients
        assert all("Origin" not in call.headers for call in fake.calls)


async def test_a_request_without_a_seed_gets_a_new_one_each_time():
    """The same workflow with the same seed would not be run again there."""
    async with open_vendor("comfyui") as (fake, backend):
        first = await draw(backend, ImageRequest("a cat"))
        second = await draw(backend, ImageRequest("a cat"))
        seeds = [call.json["prompt"]["3"]["inputs"]["seed"] for call in fake.calls if call.path == "/prompt"]

    assert seeds == [first[0].seed, second[0].seed]
    assert seeds[0] != seeds[1]


async def test_progress_and_previews_come_over_the_websocket():
    """Both forms of binary previews; nonsense in between is passed over."""
    told = Told()
    words = b'{"node_id": "3"}'
    async with open_vendor("comfyui") as (fake, backend):
        backend.every = 60
        fake.states.append({})
        fake.messages = [
            message("status", status={"exec_info": {"queue_remaining": 1}}),
            message("execution_start", prompt_id="j-1"),
            message("progress", value=1, max=4, node="3", prompt_id="j-1"),
            struct.pack(">II", 1, 1) + b"jpeg",
            struct.pack(">II", 4, len(words)) + words + b"png",
            struct.pack(">II", 3, 1) + b"text",
            struct.pack(">II", 4, 2**31) + b"x",
            b"",
            b"\0\0",
            message("progress", value=1, max=0),
            message("progress", value="x", max=[]),
            [],
            "x",
            {"type": "progress"},
            message("progress", value=4, max=4, node="3", prompt_id="j-1"),
            message("executing", node=None, prompt_id="j-1"),
        ]
        async with asyncio.timeout(10):
            images = await draw(backend, ASKED, told)

    assert len(images) == 1
    assert told.done == [0.25, 1.0]
    assert told.notes == ["node 3", "node 3"]
    assert told.partials == [b"jpeg", b"png"]


@pytest.mark.parametrize("kind", ["execution_success", "execution_error", "execution_interrupted"])
async def test_each_way_of_ending_wakes_the_waiting(kind: str):
    """Long before it would ask by itself."""
    async with open_vendor("comfyui") as (fake, backend):
        backend.every = 60
        fake.states.append({})
        fake.messages = [message(kind, prompt_id="j-1")]
        async with asyncio.timeout(10):
            await draw(backend, ASKED)


async def test_without_a_websocket_there_is_still_a_picture():
    """Only progress is missing."""
    told = Told()
    async with open_vendor("comfyui") as (fake, backend):
        fake.deaf = True
        fake.states.extend([{}, {}])
        images = await draw(backend, ASKED, told)

    assert (len(images), told.done) == (1, [])


async def test_input_pictures_are_uploaded_first():
    """Under names made of what they hold, so that the workflow can name them; the mask is turned round."""
    one, two = Image(png(8, 8)), Image(png(16, 16))
    request = ImageRequest("a cat", images=(one, two), mask=Image(png(8, 8, noise=9)), seed=1)
    async with open_vendor("comfyui") as (fake, _):
        async with ComfyUI(EDIT, fake.base, http=QUICK, every=0.01) as backend:
            await draw(backend, request)
        uploads = [call for call in fake.calls if call.path == "/upload/image"]
        nodes = next(call.json["prompt"] for call in fake.calls if call.path == "/prompt")

    names = [call.files[0][1] for call in uploads]
    assert [call.files[0][3] for call in uploads][:2] == [one.data, two.data]
    assert [nodes[node]["inputs"]["image"] for node in "123"] == names
    assert len(set(names)) == 3
    assert uploads[0].fields == {"type": "input", "overwrite": "true"}
    assert fake.paths().index("POST /prompt") > fake.paths().index("POST /upload/image")


async def test_an_upload_under_another_name_is_not_trusted():
    """The workflow would load somebody else's picture."""
    request = ImageRequest("a cat", images=(Image(png()), Image(png())), mask=Image(png()), seed=1)
    async with open_vendor("comfyui") as (fake, _):
        fake.mode, fake.error = "body", {"name": "other.png", "subfolder": "", "type": "input"}
        async with ComfyUI(EDIT, fake.base, http=QUICK) as backend:
            with pytest.raises(BrokenAnswerError):
                await draw(backend, request)

        assert len(fake.calls) == 1


def history(status: str, *messages: Any, outputs: Any = None) -> dict[str, Any]:
    return {"j-1": {"outputs": outputs or {}, "status": {"status_str": status, "messages": list(messages)}}}


OUT_OF_MEMORY = {"node_type": "KSampler", "exception_message": "Allocation on device", "traceback": ["/home/me/x.py"]}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (history("error", ["execution_error", OUT_OF_MEMORY]), "failed at KSampler: Allocation on device"),
        (history("error", ["execution_interrupted", {}]), "interrupted"),
        (history("error"), "without saying why"),
        (history("error", "x", [1, 2], [[], {}], None), "without saying why"),
        (history("success"), "saved no picture"),
        (history("success", outputs={"9": {"images": [{"filename": None}, 5]}, "8": 3}), "saved no picture"),
    ],
)
async def test_a_failed_run_is_told_in_its_words(result: Any, words: str):
    """Without its traceback."""
    async with open_vendor("comfyui") as (fake, backend):
        fake.result = result
        with pytest.raises(UpstreamError, match=words) as caught:
            await draw(backend, ASKED)

    assert "/home" not in caught.value.message
    assert caught.value.billed is False


async def test_a_rejected_workflow_is_a_matter_of_configuration():
    """The node and what it misses are told; another target may do it."""
    node = {
        "class_type": "CheckpointLoaderSimple",
        "errors": [{"type": "value_not_in_list", "message": "Value not in list", "details": "ckpt_name: 'sd'"}],
    }
    async with open_vendor("comfyui") as (fake, backend):
        error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"}
        fake.error, fake.mode = {"error": error, "node_errors": {"4": node}}, "status:400"
        with pytest.raises(MisconfiguredError, match="CheckpointLoaderSimple Value not in list ckpt_name") as caught:
            await draw(backend, ASKED)

    assert caught.value.retryable


@pytest.mark.parametrize("running", [True, False])
async def test_the_deadline_stops_the_job_and_no_other(running: bool):
    """Out of the queue, and interrupted only if it is the one that runs."""
    async with open_vendor("comfyui") as (fake, backend):
        backend.deadline, fake.result, fake.running = 0.05, {}, running
        with pytest.raises(UpstreamTimeoutError) as caught:
            await draw(backend, ASKED)
        tail = fake.paths()[-2 - running :]
        deleted = next(call.json for call in fake.calls if call.method == "POST" and call.path == "/queue")

    assert tail == ["POST /queue", "GET /queue", "POST /interrupt"][: 2 + running]
    assert deleted == {"delete": ["j-1"]}
    assert (caught.value.retryable, caught.value.billed) == (True, False)


async def test_cancelling_interrupts():
    """One's own engine does not draw for nobody."""
    told, running = Told(), asyncio.Event()
    told.progress = lambda *_: running.set()  # type: ignore[method-assign]  # tells when it runs
    async with open_vendor("comfyui") as (fake, backend):
        fake.result = {}
        fake.messages = [message("progress", value=1, max=2)]
        job = asyncio.create_task(draw(backend, ASKED, told))
        await running.wait()
        while not any(call.path.startswith("/history") for call in fake.calls):  # noqa: ASYNC110  - the fake has no event
            await asyncio.sleep(0.01)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        assert fake.paths()[-1] == "POST /interrupt"
        assert fake.last.json == {"prompt_id": "j-1"}


async def test_cancelled_while_it_connects_it_leaves_nothing_behind():
    """A server that accepts and says nothing holds no task for good."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, ComfyUI(WORKFLOW, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as backend:
        before = asyncio.all_tasks()
        job = asyncio.create_task(draw(backend, ASKED, Told()))
        await asyncio.sleep(0.1)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        await asyncio.sleep(0.05)
        left = [task for task in asyncio.all_tasks() - before if "silent" not in str(task.get_coro())]

    assert left == []


async def test_a_key_for_a_proxy_before_it_goes_with_every_call():
    """Also with the websocket's."""
    async with open_vendor("comfyui") as (fake, _):
        async with ComfyUI(WORKFLOW, fake.base, (Secret("canary"),), http=QUICK, every=0.01) as backend:
            await draw(backend, ASKED)

        assert {call.key for call in fake.calls} == {"canary"}
        assert fake.socket is not None
    assert "canary" not in repr(backend)


async def test_only_the_named_output_counts():
    """A workflow may save more than what was asked."""
    outputs = {
        "9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]},
        "3": {"images": [{"filename": "b.png", "subfolder": "", "type": "output"}]},
    }
    async with open_vendor("comfyui") as (fake, _):
        fake.result = history("success", outputs=outputs)
        async with ComfyUI(WORKFLOW, fake.base, output="3", http=QUICK, every=0.01) as backend:
            await draw(backend, ASKED)

        assert fake.last.query["filename"] == "b.png"
