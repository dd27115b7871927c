"""A web server for tests, on loopback: files of a directory or another server's answers, with faults on demand.

    with serving(forward_to(port)) as server:
        server.plan = mixed(0.05, seed=0)
        store = ups_data.open_store("s3://bucket/burgers", remote=ups_data.RemoteOptions(endpoint=server.url))

puts it before an S3 service on loopback, such as that of `s3_server`.
"""

from __future__ import annotations

import hashlib
import http.client
import http.server
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

TRANSIENT = (
    "e500",
    "e503",
    "e429",
    "reset",
    "short",
    "stall",
    "slow",
    "whole",
    "other_range",
    "shifted",
    "flip",
    "tag",
)
"""What passes on repetition; each is one fault of one answer."""

STALL_S = 1.0
_FORWARDED = ("ETag", "Content-Range", "Last-Modified", "Content-Type")
SECRET = "AKIAVERYSECRETKEYID"
"""What refusals repeat, as services repeat key ids; it must get into no message."""

Plan = Callable[[int], str | None]
"""Which fault the request of that number meets, None for none."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent, before a fault spoils it."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Log:
    """What came: method, path and range of each request, and the fault that it met."""

    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    num_bytes: int = 0

    @property
    def num_faults(self) -> int:
        """Requests that met a fault."""
        return sum(fault is not None for *_, fault in self.requests)


def serve_directory(root: Path, *, ranges: bool = True) -> Callable[..., Answer]:
    """Answer with files of a directory."""

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        file = root / unquote(path).lstrip("/")
        if method not in {"GET", "HEAD"}:
            return Answer(status=405, headers={}, body=b"")
        if not file.is_file():
            return Answer(status=404, headers={}, body=b"nothing here")
        body = file.read_bytes()
        told = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        whole = Answer(status=200, headers=told, body=body)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", "")) if ranges else None
        if asked is None:
            return whole
        start, stop = int(asked[1]), min(int(asked[2] or len(body)) + 1, len(body))
        if start >= stop:
            return Answer(status=416, headers={}, body=b"")
        described = {**told, "Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}
        return Answer(status=206, headers=described, body=body[start:stop])

    return answer


def forward_to(port: int) -> Callable[..., Answer]:
    """Answer with what another server on loopback answers."""

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(method, path, headers={k: v for k, v in headers.items() if k != "connection"})
            found = connection.getresponse()
            told = {name.lower(): value for name, value in found.getheaders()}
            kept = {name: told[name.lower()] for name in _FORWARDED if name.lower() in told}
            if method == "HEAD":
                kept["Content-Length"] = told["content-length"]
            return Answer(status=found.status, headers=kept, body=found.read())
        finally:
            connection.close()

    return answer


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together; apart, each answer would wait for a delayed acknowledgement
    server: FaultServer

    def do_GET(self) -> None:
        """Answer, or fail as the plan says."""
        number, fault = self.server.begin(self)
        if fault == "hang":
            self.server.closing.wait(STALL_S)
            self.close_connection = True
            return
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Closed for good only once the files made of it are closed, too.
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.answer(self.command, self.path, headers)
        self._send(_spoil(answer, fault, number), fault)

    do_HEAD = do_GET
    do_PROPFIND = do_GET

    def finish(self) -> None:
        """End a connection."""
        with suppress(OSError, ValueError):  # a connection that a fault closed
            super().finish()

    def _send(self, answer: Answer, fault: str | None) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self._send_body(answer.body, fault)
        except OSError:
            self.close_connection = True

    def _send_body(self, body: bytes, fault: str | None) -> None:
        if fault in {"short", "stall"}:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            if fault == "stall":
                self.server.closing.wait(STALL_S)
            return
        if fault == "slow":
            for start in range(0, len(body), max(1, len(body) // 4)):
                time.sleep(0.02)
                self.wfile.write(body[start : start + max(1, len(body) // 4)])
                self.wfile.flush()
            return
        self.server.log.num_bytes += len(body)  # first: who reads the answer may read the count at once
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _spoil(answer: Answer, fault: str | None, number: int) -> Answer:
    """Return an answer as a fault leaves it."""
    if fault in {"e500", "e503", "e429", "e403", "e401"}:
        told = {"Retry-After": "1"} if fault == "e429" else {}
        return Answer(status=int(fault[1:]), headers=told, body=f"<Key>{SECRET}</Key>".encode())
    spoil = _SPOILERS.get(fault or "")
    return answer if spoil is None or answer.status != 206 or not answer.body else spoil(answer, number)


def _flip(answer: Answer, number: int) -> Answer:
    spoiled = bytearray(answer.body)
    spoiled[number * 7919 % len(spoiled)] ^= 1 << number % 8
    return replace(answer, body=bytes(spoiled))


def _shift(answer: Answer, _: int) -> Answer:
    return replace(answer, body=answer.body[1:] + bytes([answer.body[0] ^ 1]))


def _exchange_tag(answer: Answer, number: int) -> Answer:
    return replace(answer, headers={**answer.headers, "ETag": f'"of-another-file-{number}"'})


def _send_whole(answer: Answer, _: int) -> Answer:
    kept = {name: value for name, value in answer.headers.items() if name != "Content-Range"}
    return replace(answer, status=200, headers=kept)


def _tell_another_range(answer: Answer, _: int) -> Answer:
    start, stop, size = map(int, re.findall(r"\d+", answer.headers["Content-Range"]))
    return replace(answer, headers={**answer.headers, "Content-Range": f"bytes {start + 1}-{stop + 1}/{size + 1}"})


_SPOILERS: dict[str, Callable[[Answer, int], Answer]] = {
    "flip": _flip,
    "shifted": _shift,
    "tag": _exchange_tag,
    "whole": _send_whole,
    "other_range": _tell_another_range,
}


class FaultServer(http.server.ThreadingHTTPServer):
    """Answers on a port of its own choice, each request by a thread.

    Attributes:
        answer: what it answers by.
        plan: which requests meet which fault; may be exchanged at any time.
        log: what came so far; may be exchanged, too.
        closing: set when the server ends, which lets go of requests that hang.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[..., Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.log = answer, Log()
        self.plan: Plan = no_faults
        self.closing = threading.Event()
        self._counting = threading.Lock()
        self._paths: list[str] = []

    @property
    def url(self) -> str:
        """Address."""
        return f"http://127.0.0.1:{self.server_port}"

    def path_of(self, number: int) -> str:
        """Return the path of a request that came."""
        return self._paths[number]

    def begin(self, handler: http.server.BaseHTTPRequestHandler) -> tuple[int, str | None]:
        """Number a request, and note it; return the number and the fault that it meets."""
        with self._counting:
            number = len(self._paths)
            self._paths.append(handler.path)
            fault = self.plan(number)
            self.log.requests.append((handler.command, handler.path, handler.headers.get("Range"), fault))
        return number, fault

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that gave up."""


@contextmanager
def serving(answer: Callable[..., Answer]) -> Iterator[FaultServer]:
    """Run a server on a thread of its own while the block lasts."""
    server = FaultServer(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def no_faults(_: int) -> str | None:
    """Let every request pass."""
    return None


def always(fault: str) -> Plan:
    """Let every request meet a fault."""
    return lambda _: fault


def every(period: int, fault: str, *, after: int = 0) -> Plan:
    """Let every `period`-th request meet a fault, from number `after` on."""
    return lambda number: fault if number >= after and number % period == period - 1 else None


def mixed(share: float, *, seed: int) -> Plan:
    """Let a share of the requests meet any of the faults that pass."""
    draw = random.Random(seed)
    return lambda _: draw.choice(TRANSIENT) if draw.random() < share else None
