"""A TCP proxy that behaves badly on command: swallows, cuts, or is not there."""

import asyncio
from contextlib import suppress


class RudeProxy:
    """Stands before a server on this machine. *up* and *down* are how many bytes pass each way per connection."""

    def __init__(self, port):
        self.behind, self.up, self.down, self.deaf = port, None, None, False
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *reason):
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def serve(self, reader, writer):
        self.tasks.add(task := asyncio.current_task())
        task.add_done_callback(self.tasks.discard)
        try:
            if self.deaf:
                await asyncio.Event().wait()
            there, back = await asyncio.open_connection("127.0.0.1", self.behind)
            try:
                await asyncio.gather(
                    self.pump(reader, back, lambda: self.up), self.pump(there, writer, lambda: self.down)
                )
            finally:
                back.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def pump(self, reader, writer, allowance):
        passed = 0
        with suppress(ConnectionError):
            while piece := await reader.read(65536):
                limit = allowance()
                if limit is not None and passed + len(piece) > limit:
                    writer.write(piece[: max(0, limit - passed)])
                    await writer.drain()
                    raise ConnectionResetError
                passed += len(piece)
                writer.write(piece)
                await writer.drain()
            writer.close()
            return
        raise ConnectionResetError
