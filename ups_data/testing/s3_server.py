"""A real S3-compatible server (moto) on loopback, in a process of its own, and stores uploaded to it."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ups_data.errors import RemoteError

BUCKET = "fields"
_START_S = 60.0


@contextmanager
def s3_server() -> Iterator[int]:
    """Start the server and make a bucket; yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _make_bucket(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


def _make_bucket(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            _put(port, f"/{BUCKET}", b"")
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() >= deadline:
                reason = "does not answer" if process.poll() is None else f"ended with {process.returncode}"
                raise RemoteError(f'the S3 server {reason}; is it installed? pip install "moto[server]"') from error
            time.sleep(0.1)


def _put(port: int, path: str, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("PUT", path, body=body)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RemoteError(f"the S3 server answered {answer.status} to PUT {path}")
    finally:
        connection.close()


def upload(port: int, root: Path, prefix: str) -> str:
    """Upload all files of a directory; return the URL of the prefix."""
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        _put(port, f"/{BUCKET}/{prefix}/{file.relative_to(root).as_posix()}", file.read_bytes())
    return f"s3://{BUCKET}/{prefix}"
