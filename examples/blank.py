"""A picture of one colour: the smallest backend that does all a backend can."""

import io
from dataclasses import dataclass

from PIL import Image as Canvas
from PIL import ImageColor

from gateway import Capabilities, Image, ImageRequest, Report, Size, hookimpl


@dataclass
class Blank:
    """Fills a picture with *colour*, a name or ``#rrggbb``."""

    colour: str = "white"

    def __post_init__(self) -> None:
        ImageColor.getrgb(self.colour)  # raises ValueError: told at the start, with the place in the YAML

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(sizes=(Size(512, 512), Size(1024, 576)))

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        report.progress(0.5, "mixing the paint")
        size = request.size or Size(512, 512)
        held = io.BytesIO()
        Canvas.new("RGB", (size.width, size.height), self.colour).save(held, "PNG")
        return [Image(held.getvalue())]


@hookimpl
def provide_backends() -> dict[str, type[Blank]]:
    return {"blank": Blank}
