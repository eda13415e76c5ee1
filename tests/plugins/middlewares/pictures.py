"""Small pictures and jobs for the tests of middlewares that touch pictures."""

from io import BytesIO

from PIL import Image as Pillow

from gateway import Caller, Image, ImageRequest, Receipt, Work, inspect


def picture(format_: str = "PNG", size: tuple[int, int] = (60, 40), mode: str = "RGB", **options) -> Image:
    """Encode a gradient."""
    buffer = BytesIO()
    Pillow.linear_gradient("L").resize(size).convert(mode).save(buffer, format=format_, **options)
    return inspect(Image(data=buffer.getvalue(), seed=11))


def opened(image: Image) -> Pillow.Image:
    found = Pillow.open(BytesIO(image.data))
    found.load()
    return found


def work(*images: Image, prompt: str = "a cat, drawn", original: str = "cat") -> Work:
    """A job whose pictures are about to be stored."""
    request = ImageRequest(prompt, model="flux")
    return Work("job-1", Caller("ann"), request, original, Receipt(model="flux"), images)


async def store(work: Work) -> Work:
    """Stand for the storage."""
    return work
