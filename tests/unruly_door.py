"""A small real server on loopback that speaks `POST /v1/evaluations`, and misbehaves by a script.

It lands as the house does (by record_id, else by content; answers kept by Idempotency-Key), so that a test can ask it
what a client's records have come to.
"""

import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "tm_live_k_s3cr3t_c"

# What happens to one request: `lost` is a reset before the landing, `unheard` one after it.
Act = str
ACTS = ("ok", "503", "503 soon", "429 date", "409", "500", "lost", "unheard", "half")


@dataclass
class Door:
    """The server's state. `script` is consumed by one act a request; then all goes well."""

    url: str = ""
    script: list[Act] = field(default_factory=list)
    always: Act = "ok"
    most_records: int = 10_000
    most_bytes: int = 8 * 1024 * 1024
    slow_seconds: float = 0.0
    landed: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def land(self, body: bytes) -> tuple[int, bytes]:
        """Judge and keep a batch."""
        counts = {"accepted": 0, "duplicates": 0, "conflicts": 0, "rejected": 0}
        errors = []
        for number, line in enumerate(body.splitlines(), start=1):
            name, problem = self._judge(line)
            counts[name] += 1
            if problem:
                errors.append(
                    {"line": number, "field": "template", "code": "bad", "reason": problem}
                    | {"verdict": "conflict" if name == "conflicts" else "rejected"}
                )
        landed = counts["accepted"] + counts["duplicates"]
        status = 200 if not errors else 207 if landed else 422
        return status, json.dumps({"batch_id": "b", **counts, "errors": errors[:100]}).encode()

    def _judge(self, line: bytes) -> tuple[str, str]:
        try:
            record: dict[str, Any] = json.loads(line)
        except ValueError:
            return "rejected", "is not JSON"
        if not record.get("template"):
            return "rejected", "must not be empty"
        content = json.dumps(record, sort_keys=True)
        identity = str(record.get("record_id") or content)
        if identity not in self.landed:
            self.landed[identity] = content
            return "accepted", ""
        same = self.landed[identity] == content
        return ("duplicates", "") if same else ("conflicts", "has landed before with other content")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    door: Door

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = zlib.decompress(body, 16 + zlib.MAX_WBITS)
        with self.door.lock:
            self.door.requests.append(dict(self.headers.items()) | {"path": self.path})
            act = self.door.script.pop(0) if self.door.script else self.door.always
        self._perform(act, body)

    def _perform(self, act: Act, body: bytes) -> None:
        if self.headers["X-API-Key"] != KEY:
            self._answer(401, b'{"detail":"that is no key"}')
        elif len(body) > self.door.most_bytes or body.count(b"\n") > self.door.most_records:
            self._answer(413, b'{"detail":"too large"}')
        elif act == "503 soon":
            self._answer(503, b"{}", **{"Retry-After": "2"})
        elif act == "503 when released":
            self.door.released.wait(20)
            self._answer(503, b'{"detail":"not now"}')
        elif act == "429 date":
            self._answer(429, b"{}", **{"Retry-After": self.date_time_string(int(time.time()) + 3)})
        elif act == "429 month":
            self._answer(429, b'{"detail":"the month is full"}', **{"Retry-After": str(86400 * 20)})
        elif act.isdigit():
            self._answer(int(act), b'{"detail":"not now"}')
        elif act == "lost":
            self._reset()
        elif act == "portal":
            self._answer(200, b"<html>log in</html>")
        else:
            self._land(act, body)

    def _land(self, act: Act, body: bytes) -> None:
        with self.door.lock:
            key = self.headers["Idempotency-Key"]
            if key not in self.door.answers:
                self.door.answers[key] = self.door.land(body)
            status, answer = self.door.answers[key]
        time.sleep(self.door.slow_seconds)
        if act == "unheard":
            self._reset()
        elif act == "half":
            self._answer(status, answer, cut=len(answer) // 2)
            self._reset()
        else:
            self._answer(status, answer)

    def _answer(self, status: int, body: bytes, cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])

    def _reset(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        # No linger: the client sees a reset and no orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            self.close_connection = True

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is its own."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def shutdown_request(self, request: Any) -> None:
        # Without the polite shutdown before, which would make an end of what should be a reset.
        self.close_request(request)


@contextmanager
def unruly_door() -> Iterator[Door]:
    """The door, open for the length of the block."""
    door = Door()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"door": door}))
    door.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield door
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
