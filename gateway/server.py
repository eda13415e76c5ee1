"""Runs the gateway as a process: one loop, a banner, and a shutdown that loses no paid picture."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from aiohttp import web

from gateway.app import make_app
from gateway.config import Configuration
from gateway.connections import listen
from gateway.door import most_connections, spare_the_log
from gateway.errors import GatewayError
from gateway.log_lines import make_handler
from gateway.options import bracketed
from gateway.runtime import Runtime, make_runtime

log = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
ARENAS = 2
"""Heaps of the C library: each of eight threads would keep the pictures of its busiest moment in one of its own."""
KEPT_BYTES = 64 * 2**20
SHOWN = 20
"""Models that the line at the start names; the others are counted."""
STUCK = 3.0
"""Seconds that tasks get to end after everything was closed."""


def say(line: str) -> None:
    """Print a line; a full disk or a reader who has gone is no reason not to serve."""
    try:
        print(line, flush=True)
    except (OSError, ValueError) as error:
        log.warning("nothing can be written to the standard output: %s", error)


def run(configuration: Configuration, announce: Callable[[str], None] = say) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    _set_up_logging()
    _keep_big_blocks()
    try:
        return asyncio.run(_serve(configuration, announce))
    except OSError as error:
        server = configuration.settings.server
        unknown_host = isinstance(error, socket.gaierror)
        if not unknown_host and error.errno not in {errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL}:
            raise
        sys.stderr.write(f"cannot listen on {server.host}:{server.port}: {error.strerror or error}\n")
        return 1
    except GatewayError as error:
        sys.stderr.write(f"cannot start: {error.message}\n")
        return 1
    except asyncio.CancelledError:
        return 0


def _set_up_logging() -> None:
    """Log to stderr, and collect nothing for a line that its format does not show."""
    handler = make_handler(sys.stderr)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", handlers=[handler])
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False


async def _serve(configuration: Configuration, announce: Callable[[str], None]) -> int:
    spare_the_log(asyncio.get_running_loop())
    runtime = make_runtime(configuration)
    runtime.memory.spare_addresses()
    server = runtime.settings.server
    runner = web.AppRunner(
        make_app(runtime),
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,
        shutdown_timeout=server.shutdown_timeout,
    )
    listener = None
    try:
        stop = _stop_signals(runtime, lambda: listener is not None)
        await runner.setup()
        most = most_connections(server.max_connections, runtime.settings.jobs.running)
        listener = await listen(runner, replace(server, max_connections=most))
        _spare_the_collector()
        _announce(runtime, listener.sockets[0].getsockname()[1], announce)
        await stop.wait()
        await _drain(runtime)
    finally:
        if listener:
            listener.close()
        await runner.cleanup()
        await _end_what_is_left()
    return 0


def _stop_signals(runtime: Runtime, serving: Callable[[], bool]) -> asyncio.Event:
    """Give an event that the first signal sets; a second one gives up the jobs that still run. Before anything is
    served a signal ends the start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()

    def on_signal(number: signal.Signals) -> None:
        again = stop.is_set()
        stop.set()
        if again and number == signal.SIGHUP:
            # A terminal that closes may say it twice: once itself, and once when the shell in it ends.
            return
        if not serving() and starting:
            log.info("stopping before the start was over")
            starting.cancel()
        elif again:
            log.warning("stopping at once: %s", runtime.jobs.counts)
            runtime.jobs.abort()

    # A terminal that closes says SIGHUP; under nohup it says nothing.
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    for number in (signal.SIGTERM, signal.SIGINT, *hangup):
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def _drain(runtime: Runtime) -> None:
    """Take no new jobs and let the running ones end. Meanwhile the port stays open: pictures are served, and health
    says 503, so that load balancers look elsewhere before the port closes."""
    log.info("stopping: %s", runtime.jobs.counts)
    server = runtime.settings.server
    runtime.jobs.draining = True
    if server.drain_delay:
        await runtime.jobs.aborted(server.drain_delay)
    if not await runtime.jobs.drain(server.shutdown_timeout):
        log.warning("some jobs did not end within %g s", server.shutdown_timeout)


async def _end_what_is_left() -> None:
    """End the process even if a plugin's task will not let itself be cancelled."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    stuck = (await asyncio.wait(left, timeout=STUCK))[1] if left else set()
    if stuck:
        log.error("%d tasks of plugins do not end: %s", len(stuck), ", ".join(task.get_name() for task in stuck))
        logging.shutdown()
        os._exit(0)


def listed(models: Collection[str]) -> str:
    """Name the first of *models* and count the others."""
    more = f" and {len(models) - SHOWN} more" if len(models) > SHOWN else ""
    return ", ".join(list(models)[:SHOWN]) + more


def _announce(runtime: Runtime, port: int, announce: Callable[[str], None]) -> None:
    server = runtime.settings.server
    host = bracketed({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host))
    base = (server.public_url or f"http://{host}:{port}").rstrip("/")
    for warning in filter(None, (*runtime.warnings, runtime.memory.warning())):
        log.warning("%s", warning)
    if not runtime.settings.proxy.keys:
        log.info("there are no proxy.keys: signed links are off%s", _proxied(runtime.settings.proxy.hosts))
    announce(f"Image Gateway is ready on {base}  (models: {listed(runtime.settings.models)})")
    made = [component for component in runtime.authenticators.values() if getattr(component, "generated", None)]
    key: str | None = getattr(made[0], "generated", None) if made else None
    if key:
        kept = (
            "made at the first start, kept for the next" if getattr(made[0], "kept", True) else "for this start alone"
        )
        announce(f"API key ({kept}): {key!s}")
    model = runtime.settings.default_model or next(iter(runtime.settings.models), "MODEL")
    announce(
        "Try it:\n"
        f'  curl {base}/v1/chat/completions -H "Authorization: Bearer {key or "$KEY"}" '
        "-H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "a lighthouse at dusk 16:9"}}]}}\'\n'
        f"Or open {base}/ in a browser."
    )


def _proxied(hosts: Sequence[str]) -> str:
    return (
        f", and the image proxy shows pictures of {', '.join(hosts)} alone" if hosts else " and so is the image proxy"
    )


def _spare_the_collector() -> None:
    """Keep the cyclic collector from walking what lives as long as the process, and thousands of remembered jobs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def _keep_big_blocks() -> None:
    """Tell glibc to reuse big blocks: mapping and unmapping one per picture costs a fifth of the throughput."""
    if sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES // 2)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_ARENA_MAX, ARENAS)
    except (OSError, AttributeError):
        log.debug("this C library has no mallopt")
