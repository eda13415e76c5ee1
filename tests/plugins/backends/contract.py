"""What the tests of backends share: a report that remembers, and requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway import Image, ImageRequest, Secret, Usage
from tests.fake_upstream import png

CANARY = Secret("sk-canary0123456789abcdef")


@dataclass
class Remembered:
    """A report that keeps what it is told."""

    sent: int = 0
    done: list[float] = field(default_factory=list)
    previews: list[Image] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def sending(self) -> None:
        self.sent += 1

    def progress(self, done: float, note: str = "") -> None:
        self.done.append(done)

    def partial(self, image: Image) -> None:
        self.previews.append(image)

    def used(self, usage: Usage) -> None:
        self.usages.append(usage)

    def noted(self, note: str) -> None:
        self.notes.append(note)


def asking(model: str, **more: Any) -> ImageRequest:
    """Ask for a cat."""
    return ImageRequest(**{"prompt": "a cat", "model": model, **more})


def input_image(width: int = 16, height: int = 16) -> Image:
    """Give an input picture as the gateway hands it on."""
    return Image(data=png(width, height), media_type="image/png", width=width, height=height)
