"""Draws on this machine's own processor or GPU with any pipeline that `diffusers` can load."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import logging
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image as Pillow
from pydantic import BeforeValidator, Field

from gateway import (
    BrokenAnswerError,
    Capabilities,
    Duration,
    Image,
    ImageRequest,
    MisconfiguredError,
    Range,
    RefusedError,
    Report,
    SizeRule,
    UpstreamError,
    UpstreamTimeoutError,
    hookimpl,
    one_line,
    repaint_mask,
    upright,
)

log = logging.getLogger(__name__)

MISSING = "diffusers is not installed; pip install 'image-gateway[diffusers]'"
PATH = re.compile(r"(?<![\w.:/])(?:/|[A-Za-z]:\\)[^\s'\"(),:]+")
USUAL = frozenset({"prompt", "width", "height", "num_inference_steps", "guidance_scale", "generator"})
CHANGES = ("img2img", "inpaint", "pix2pix", "fill", "upscale", "depth")
"""Words in the name of a pipeline that can do nothing without an input picture."""

BROKEN = (RuntimeError, ValueError, TypeError, OSError, KeyError, IndexError, AttributeError, NotImplementedError)
"""What other people's pipelines raise."""

DEVICES: dict[str, threading.Lock] = {}
"""One job at a time per device. A device belongs to the whole process, however many components draw on it."""

LOADING = threading.Lock()


def _local(value: object) -> object:
    """Take for a path, which is relative to the configuration, what begins like one; else it is a name on the hub."""
    return Path(value) if isinstance(value, str) and value.startswith((".", "/", "~")) else value


@dataclass(eq=False)
class Diffusers:
    """A pipeline in this process; *path* is a local folder or a name on the hub (*offline* keeps it from the network).

    The weights are loaded by the first job, or at the start with *preload*. *device* ``auto`` takes cuda, mps or cpu,
    *dtype* ``auto`` what suits it; *offload* keeps in the GPU only what works just now. *timeout* bounds one job.
    *extra* goes to every call of the pipeline (``{max_sequence_length: 256}``). The target's model name means nothing.
    """

    path: Annotated[Path | str, BeforeValidator(_local)]
    offline: bool = False
    preload: bool = False
    device: Literal["auto", "cpu", "cuda", "mps"] | Annotated[str, Field(pattern=r"^cuda:[0-9]+$")] = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    variant: str | None = None
    offload: bool = False
    count: Annotated[int, Field(ge=1, le=16)] = 4
    strength: Annotated[float, Field(ge=0, le=1)] = 0.75
    timeout: Annotated[Duration, Field(gt=0)] = 600
    extra: Mapping[str, Any] = field(default_factory=dict)
    _pipeline: Any = field(init=False, repr=False, default=None)
    _takes: frozenset[str] = field(init=False, repr=False, default=USUAL)
    _kind: str = field(init=False, repr=False, default="")
    _trouble: str = field(init=False, repr=False, default="")
    _worker: ThreadPoolExecutor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("diffusers") is None or importlib.util.find_spec("torch") is None:
            raise ValueError(MISSING)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="diffusers")

    async def __aenter__(self) -> Diffusers:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._worker, self._load if self.preload else self._look)
        except MisconfiguredError as error:
            log.warning("%s", error.message)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)
        self._pipeline = None

    def health(self) -> Mapping[str, Any]:
        """Say what is loaded and what kept it from loading."""
        trouble = {"trouble": self._trouble} if self._trouble else {}
        return {"pipeline": self._kind, "loaded": self._pipeline is not None, **trouble}

    def capabilities(self, model: str) -> Capabilities:
        """Say what the pipeline's own signature takes."""
        takes = self._takes
        limits: Mapping[str, tuple[str, Any]] = {
            "seed": ("generator", Range(0, 2**63 - 1)),
            "steps": ("num_inference_steps", Range(1, 150)),
            "guidance": ("guidance_scale", Range(0, 100)),
            "negative_prompt": ("negative_prompt", True),
        }
        return Capabilities(
            SizeRule(low=64, high=4096, step=16) if {"width", "height"} <= takes else (),
            count=self.count,
            accepts={name: limit for name, (needed, limit) in limits.items() if needed in takes},
            inputs=1 if "image" in takes else 0,
            needs_input="image" in takes and any(word in self._kind.lower() for word in CHANGES),
            mask="mask_image" in takes,
            progress=True,
        )

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Draw in the worker thread; a cancelled or late job stops at its next step. Nothing is paid."""
        loop = asyncio.get_running_loop()
        stop = threading.Event()

        def progress(done: float, note: str) -> None:
            loop.call_soon_threadsafe(report.progress, done, note)

        try:
            async with asyncio.timeout(self.timeout) as limit:
                return await loop.run_in_executor(self._worker, self._draw, request, progress, stop)
        except TimeoutError as error:
            if not limit.expired():
                raise
            words = f"the pictures were not done after {self.timeout:g} s and were given up"
            raise UpstreamTimeoutError(words, sent=False, billed=False, retryable=True) from error
        finally:
            stop.set()

    # From here on everything runs in the worker thread. ---------------------------------------------------------

    def _draw(
        self, request: ImageRequest, progress: Callable[[float, str], None], stop: threading.Event
    ) -> list[Image]:
        if stop.is_set():
            return []
        progress(0, "loading" if self._pipeline is None else "waiting")
        self._load()
        lock = DEVICES.setdefault(self._place(), threading.Lock())
        while not lock.acquire(timeout=0.2):
            if stop.is_set():
                return []
        try:
            seed = secrets.randbelow(2**32) if request.seed is None else request.seed
            return [
                self._one(request, number, (seed + number) % 2**63, progress, stop)
                for number in range(request.n)
                if not stop.is_set()
            ]
        except BROKEN as error:
            log.warning("the pipeline failed: %s", error)
            raise UpstreamError(f"the pipeline failed ({_words(error)})", billed=False, retryable=True) from error
        finally:
            lock.release()

    def _one(
        self,
        request: ImageRequest,
        number: int,
        seed: int,
        progress: Callable[[float, str], None],
        stop: threading.Event,
    ) -> Image:
        """Draw one picture with a generator of its own, so that picture *number* is the same in any batch."""
        torch = importlib.import_module("torch")

        def after_step(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            steps = getattr(pipeline, "num_timesteps", 0) or request.steps or 1
            progress(min(1.0, (number + (step + 1) / steps) / request.n), f"step {step + 1} of {steps}")
            if stop.is_set():
                pipeline._interrupt = True
            return values

        given = self._arguments(request)
        given["generator"] = torch.Generator("cpu").manual_seed(seed)
        if "callback_on_step_end" in self._takes:
            given["callback_on_step_end"] = after_step
        made = self._pipeline(**given)
        flags = getattr(made, "nsfw_content_detected", None)
        if isinstance(flags, list) and any(flag is True for flag in flags):
            raise RefusedError("refused what it had drawn (the pipeline's safety checker): the picture came blackened")
        pictures = getattr(made, "images", None)
        if not isinstance(pictures, list) or not pictures or not isinstance(pictures[0], Pillow.Image):
            raise BrokenAnswerError("the pipeline made no picture", billed=False)
        buffer = BytesIO()
        pictures[0].save(buffer, "PNG", compress_level=1)
        return Image(buffer.getvalue(), seed=seed)

    def _arguments(self, request: ImageRequest) -> dict[str, Any]:
        named: dict[str, Any] = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance,
        }
        if request.size:
            named |= {"width": request.size.width, "height": request.size.height}
        if request.images:
            # A mask lies on the picture as it is stored.
            given = _opened(request.images[0].data, turned=request.mask is None)
            named |= {"image": given, "strength": self.strength}
        if request.mask:
            named["mask_image"] = _opened(repaint_mask(request.mask))
        taken = {name: value for name, value in named.items() if value is not None and name in self._takes}
        return {**self.extra, **taken}

    def _look(self) -> None:
        """Learn from the pipeline's index alone what it takes; the weights are not read."""
        diffusers = importlib.import_module("diffusers")
        try:
            index = diffusers.DiffusionPipeline.load_config(str(self.path), local_files_only=self.offline)
            file = Path(self.path) / "transformer" / "config.json"
            facts = json.loads(file.read_bytes()) if file.is_file() else {}
            self._learn(getattr(diffusers, str(index.get("_class_name")), None), facts)
        except BROKEN as error:
            raise self._cannot_load(error) from error

    def _load(self) -> None:
        if self._pipeline is not None:
            return
        diffusers, torch = importlib.import_module("diffusers"), importlib.import_module("torch")
        for library in (diffusers, importlib.import_module("transformers")):
            library.utils.logging.disable_progress_bar()  # they draw on the terminal
        device = self._place()
        dtype = {"cpu": "float32", "mps": "float16"}.get(device, "bfloat16") if self.dtype == "auto" else self.dtype
        options = {"variant": self.variant} if self.variant else {}
        try:
            # While one is loaded, its libraries make every new module of the process an empty one.
            with LOADING:
                pipeline = diffusers.DiffusionPipeline.from_pretrained(
                    str(self.path), dtype=getattr(torch, dtype), local_files_only=self.offline, **options
                )
                pipeline.set_progress_bar_config(disable=True)
                if self.offload and device != "cpu":
                    pipeline.enable_model_cpu_offload(device=device)
                else:
                    pipeline.to(device)
        except (*BROKEN, ImportError) as error:
            raise self._cannot_load(error) from error
        self._learn(type(pipeline), getattr(getattr(pipeline, "transformer", None), "config", {}))
        self._pipeline, self._trouble = pipeline, ""

    def _learn(self, kind: Any, transformer: Mapping[str, Any]) -> None:
        """Read what the pipeline takes, less what its signature has but this model would pass over in silence."""
        if kind is None:
            return
        parameters = inspect.signature(kind.__call__).parameters
        ignored = set()
        if "true_cfg_scale" in parameters:
            scale = self.extra.get("true_cfg_scale", parameters["true_cfg_scale"].default)
            ignored |= set() if isinstance(scale, int | float) and scale > 1 else {"negative_prompt"}
        if transformer.get("guidance_embeds") is False:
            ignored.add("guidance_scale")
        self._kind = kind.__name__
        self._takes = frozenset(parameters) - ignored

    def _cannot_load(self, error: Exception) -> MisconfiguredError:
        log.error("cannot load the pipeline: %s", error)
        self._trouble = f"cannot load the pipeline ({_words(error)})"
        return MisconfiguredError(self._trouble, sent=False)

    def _place(self) -> str:
        if self.device != "auto":
            return self.device
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"


def _words(error: Exception) -> str:
    """Give an error's words for callers and for health, which everybody may read: paths of this machine are not in."""
    return one_line(PATH.sub("…", f"{type(error).__name__}: {error}"))


def _opened(data: bytes, turned: bool = False) -> Pillow.Image:
    with Pillow.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF", "AVIF")) as picture:
        return (upright(picture) if turned else picture).convert("RGB")


@hookimpl
def provide_backends() -> Mapping[str, type[Diffusers]]:
    """Offer ``diffusers``."""
    return {"diffusers": Diffusers}
