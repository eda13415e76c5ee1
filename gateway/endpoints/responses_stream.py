"""A response as events, in the order and with the numbers that the Responses API gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.endpoints.patience import patience_for
from gateway.endpoints.pieces import Base64
from gateway.endpoints.responses_answers import Response, drawn_items
from gateway.endpoints.responses_input import CALL
from gateway.endpoints.sse import FIRST_STEP, Stream, open_stream
from gateway.errors import GatewayError
from gateway.job import Job
from gateway.runtime import RUNTIME
from gateway.values import Event, Image


class Events:
    """Sends the events of one response; each bears the next *sequence_number*."""

    def __init__(self, stream: Stream, response: Response) -> None:
        self._stream = stream
        self._response = response
        self._number = 0
        self._previews = 0
        self._generating = False

    async def tell(self, name: str, fields: Mapping[str, Any]) -> None:
        number, self._number = self._number, self._number + 1
        await self._stream.send({"type": name, "sequence_number": number, **fields}, event=name)

    async def tell_response(self, state: str, response: Mapping[str, Any]) -> None:
        await self.tell(f"response.{state}", {"response": response})

    async def tell_item(self, state: str, item: Mapping[str, Any], place: int) -> None:
        await self.tell(f"response.output_item.{state}", {"output_index": place, "item": item})

    async def tell_call(self, state: str, place: int = 0, **fields: Any) -> None:
        place_of = {"output_index": place, "item_id": self._response.item_id(place)}
        await self.tell(f"response.{CALL}.{state}", {**place_of, **fields})

    async def tell_message(self, place: int) -> None:
        """Tell the message that ends the response, in one piece."""
        response, message = self._response, self._response.message()
        where = {"output_index": place, "item_id": message["id"], "content_index": 0}
        whole = response.part(response.words)
        await self.tell_item("added", {**message, "status": "in_progress", "content": []}, place)
        await self.tell("response.content_part.added", {**where, "part": response.part("")})
        await self.tell("response.output_text.delta", {**where, "delta": response.words, "logprobs": []})
        await self.tell("response.output_text.done", {**where, "text": response.words, "logprobs": []})
        await self.tell("response.content_part.done", {**where, "part": whole})
        await self.tell_item("done", message, place)

    async def tell_step(self, event: Event) -> None:
        """Tell a step of the job, if it is one that these events have a word for."""
        image = event.data.get("image") if event.type == "partial" else None
        asked = self._response.job.request
        if event.type == "generating" and not self._generating:
            self._generating = True
            await self.tell_call("generating")
        elif isinstance(image, Image) and self._previews < (asked.partial_images or 0):
            index, self._previews = self._previews, self._previews + 1
            await self.tell_call(
                "partial_image",
                partial_image_index=index,
                partial_image_b64=Base64(image.data),
                background=asked.background or "auto",
                output_format=asked.output_format or "png",
                quality=asked.quality or "auto",
                size=str(asked.size or "auto"),
            )


async def stream_response(request: web.Request, job: Job, response: Response) -> web.StreamResponse:
    """Stream the response; one that fails ends with ``response.failed``, since no status can follow any more."""
    runtime = request.app[RUNTIME]
    with runtime.jobs.reading(job, patience_for(request, job)):
        await job.begin(FIRST_STEP)
        if job.done:
            # A repeated call whose picture is gone must get its status before the stream has one.
            await drawn_items(request, await job.wait(), response)
        async with open_stream(request, runtime.settings.chat.ping, done_mark=False) as (stream, answer):
            events = Events(stream, response)
            await events.tell_response("created", response.begun())
            await events.tell_response("in_progress", response.begun())
            await events.tell_item("added", response.item("in_progress"), 0)
            await events.tell_call("in_progress")
            try:
                async for event in job.watch():
                    await events.tell_step(event)
                await _tell_end(request, job, response, events)
            except GatewayError as error:
                # No item is done: Vercel's AI SDK takes none without a picture, and would not tell why there is none.
                await events.tell_response("failed", response.failed(error))
    return answer


async def _tell_end(request: web.Request, job: Job, response: Response, events: Events) -> None:
    result = await job.wait()
    items = await drawn_items(request, result, response)
    for place, item in enumerate(items):
        if place:
            await events.tell_item("added", response.item("in_progress", place), place)
            await events.tell_call("in_progress", place)
        await events.tell_call("completed", place)
        await events.tell_item("done", item, place)
    await events.tell_message(len(items))
    await events.tell_response("completed", response.completed(result, items))
