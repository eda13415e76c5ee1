"""Prints the gateway's own share of a generation, stage by stage, in microseconds of one core.

``python benchmarks/stages.py`` runs the real stages in this process, without sockets and without an upstream:
*parse* (JSON to request), *queue* (job, admission, events, middlewares: all that is not another stage), *route*
(negotiation and choice of the target), *optimize* (the template optimizer), *decode* (the upstream's JSON to a checked
picture), *store* (memory), *format* (chat answer as JSON) and *encode* (the images API's base64 answer).
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import orjson
import pybase64

from gateway.config import load, settings_of
from gateway.contracts import Report
from gateway.decoding import unpack
from gateway.endpoints.answers import usage_of
from gateway.endpoints.body import parse_json
from gateway.endpoints.chat_body import parse_chat
from gateway.imaging import inspect
from gateway.receipt import Receipt
from gateway.registry import discover
from gateway.runtime import Runtime, make_runtime
from gateway.storing import meta_of
from gateway.texts import answer_text, make_template
from gateway.values import Caller, Image, ImageRequest
from tests.fake_upstream import png

CONFIG = """
authenticators: {keys: {use: api_keys, keys: [benchmark-key-0123456789]}}
optimizers: {style: {use: template, suffix: ", soft light"}}
backends: {cf: {use: cloudflare, account_id: bench, keys: [bench]}}
storages: {pictures: {use: memory, ttl: 30m, limit: 64MiB}}
observers: {log: {use: log}}
models: {flux: {backends: [{backend: cf, model: "@cf/black-forest-labs/flux-1-schnell"}], fit: leave}}
"""
BODY = b'{"model": "flux", "messages": [{"role": "user", "content": "a cat on a roof 16:9"}]}'
SIZES = {"200 KB": 200_000, "1.5 MB": 1_500_000}
ROUNDS = 400


async def microseconds(work: Callable[[], Any]) -> float:
    """Run *work* many times; give the best of five averages."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(ROUNDS // 5):
            made = work()
            if isinstance(made, Awaitable):
                await made
        best = min(best, (time.perf_counter() - began) / (ROUNDS // 5))
    return best * 1e6


async def measure(runtime: Runtime, size: int) -> dict[str, float]:
    picture = png(1024, 1024, noise=size)
    answer = orjson.dumps({"result": {"image": base64.b64encode(picture).decode()}, "success": True, "errors": []})
    image, caller = inspect(Image(picture)), Caller("bench")
    call = parse_chat(parse_json(BODY), runtime.settings.chat)
    recipe, storage = runtime.recipes["flux"], runtime.storages["pictures"]

    async def draw(request: ImageRequest, report: Report) -> list[Image]:
        report.sending()
        return [image]

    async def job() -> Any:
        made = runtime.jobs.submit(call.request, caller, call.text)
        with runtime.jobs.reading(made):
            return made, await made.wait()

    async def decode() -> None:
        _, found = await unpack(answer, ("result", "image"))
        inspect(Image(found))

    recipe.targets[0].backend.generate = draw  # type: ignore[method-assign]  # the upstream is not what is measured
    made, result = await job()
    work = type("Known", (), {"request": call.request, "original": call.text, "job": "j", "caller": caller})
    work.receipt = Receipt(model="flux")
    template = make_template(None, "en")

    def form() -> bytes:
        picture = result.pictures[0]
        text = answer_text(
            template,
            original=result.original,
            prompt=result.prompt,
            optimizer=None,
            size=picture.meta.size,
            urls=["http://127.0.0.1:8080/image/" + picture.meta.key],
            model="flux",
        )
        receipt = result.receipt.as_json()
        return orjson.dumps(
            {"choices": [{"message": {"content": text}}], "usage": usage_of(result), "gateway": receipt}
        )

    style = runtime.configuration.components["optimizers"]["style"]
    stages = {
        "parse": await microseconds(lambda: parse_chat(parse_json(BODY), runtime.settings.chat)),
        "route": await microseconds(lambda: runtime.router.order(made.request, recipe.targets)),
        "optimize": await microseconds(lambda: style.optimize(call.request)),
        "decode": await microseconds(decode),
        "store": await microseconds(lambda: storage.put(meta_of(image, work), image.data)),
        "format": await microseconds(form),
        "encode": await microseconds(lambda: b"".join([b'{"b64_json":"', pybase64.b64encode(picture), b'"}'])),
    }
    whole = await microseconds(job)
    return {"queue": max(0.0, whole - stages["route"] - stages["store"]), **stages}


async def main() -> None:
    document = load(Path("benchmark.yaml"), CONFIG, {})
    runtime = make_runtime(settings_of(document, discover()))
    await runtime.open()
    print("own share per generation, in microseconds")
    for title, size in SIZES.items():
        shares = await measure(runtime, size)
        print(f"  {title}: " + ", ".join(f"{name} {share:.0f}" for name, share in shares.items()))
    await runtime.close()


if __name__ == "__main__":
    asyncio.run(main())
