"""`python -m benchmarks.hook_receiver SHARE`: an endpoint that costs next to nothing, in a process of its own.

Prints its port, and at its end, when standard input closes, one line a request: the path, the id, and when it came
(seconds, of the machine's monotonic clock). Paths under `/hostile/` misbehave, each in its way.
"""

import asyncio
import sys
import time

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_BAD = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
_END = b"\r\n\r\n"
_WAYS = ("hang", "error", "drip", "cut")


class _Endpoint(asyncio.Protocol):
    def __init__(self, came: list[tuple[str, str, float]]) -> None:
        self._came = came
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._dripping: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._dripping is not None:
            self._dripping.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_END)) >= 0:
            head = self._received[:end].decode("latin-1")
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
            whole = end + len(_END) + int(headers["content-length"])
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            path = head.split(" ", 2)[1]
            self._came.append((path, headers.get("webhook-id", ""), time.monotonic()))
            self._answer(path)

    def _answer(self, path: str) -> None:
        assert self._transport is not None
        way = path.rsplit("/", 1)[-1] if path.startswith("/hostile/") else "ok"
        if way == "ok":
            self._transport.write(_OK)
        elif way == "error":
            self._transport.write(_BAD)
        elif way == "cut":
            self._transport.abort()
        elif way == "drip":
            self._transport.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            self._drip()

    def _drip(self) -> None:
        if self._transport is not None:
            self._transport.write(b"a")
            self._dripping = asyncio.get_running_loop().call_later(0.1, self._drip)


async def _serve() -> None:
    came: list[tuple[str, str, float]] = []
    server = await asyncio.get_running_loop().create_server(lambda: _Endpoint(came), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for path, identifier, at in came:
        print(path, identifier, at)


if __name__ == "__main__":
    asyncio.run(_serve())
