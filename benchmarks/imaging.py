"""Prints what the checks of finished pictures cost: ``python benchmarks/imaging.py``."""

from __future__ import annotations

import os
import timeit
from io import BytesIO

from PIL import Image as Pillow

from gateway.imaging import inspect, verify
from gateway.retouch import finish
from gateway.values import Image, Size


def sample(format_: str, megabytes: float) -> bytes:
    """Encode noise, which no format can make small, until it has about the size."""
    side = 512
    while True:
        buffer = BytesIO()
        noise = Pillow.frombytes("RGB", (side, side), os.urandom(side * side * 3))
        noise.save(buffer, format=format_, quality=90)
        if buffer.tell() >= megabytes * 1e6:
            return buffer.getvalue()
        side += 128


def milliseconds(times: int, work: object) -> float:
    """Time one call, as the best of five rounds."""
    return min(timeit.repeat(work, number=times, repeat=5)) / times * 1e3  # type: ignore[arg-type]  # any callable


def main() -> None:
    for format_ in ("PNG", "JPEG", "WEBP", "GIF", "AVIF"):
        data = sample(format_, 1.5)
        image = inspect(Image(data=data))
        checked = milliseconds(50, lambda image=image: inspect(image))
        whole = milliseconds(1, lambda data=data: verify(data))
        print(f"{format_:5} {len(data) / 1e6:.1f} MB  inspect {checked:7.4f} ms  verify {whole:7.1f} ms")
    source = inspect(Image(data=sample("JPEG", 0.7)))
    for target in ("jpeg", "png", "webp", "avif"):
        spent = milliseconds(1, lambda target=target: finish(source, size=Size(1024, 576), output_format=target))
        print(f"finish {source.size} to 1024x576 {target:5} {spent:7.1f} ms")


if __name__ == "__main__":
    main()
