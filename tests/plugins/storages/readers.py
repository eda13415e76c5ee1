"""A client that takes a picture step by step, so that things can happen meanwhile."""

import asyncio
import socket

KEY = "k" * 40
FIRST = 50_000
"""Bytes that a reader takes before anything happens; what the kernel holds for it is less than the rest of 14 MB."""


class Reader:
    """A client with a small buffer that reads one answer in steps, byte for byte as it comes.

    It asks for a download, which no storage answers by a redirect.
    """

    def __init__(self, port):
        self.port = port

    async def __aenter__(self):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        self.reader, self.writer = await asyncio.open_connection(sock=connection, limit=2**16)
        self.writer.write(f"GET /image/{KEY}?download=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return self

    async def __aexit__(self, *reason):
        self.writer.transport.abort()

    async def begun(self):
        """Read the head and the first bytes; give the status."""
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        self.data = await self.reader.read(FIRST)
        return int(self.head.split(" ")[1])

    async def ended(self):
        """Read the rest; give the body if it is as long as was told, None if the connection was cut before."""
        [length] = [line[16:] for line in self.head.splitlines() if line.startswith("Content-Length: ")]
        try:
            while part := await self.reader.read(2**16):
                self.data += part
        except ConnectionError:
            return None
        assert len(self.data) <= int(length)
        return self.data if len(self.data) == int(length) else None
