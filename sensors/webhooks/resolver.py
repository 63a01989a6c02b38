"""Which address a host's name leads to now: asked in threads, judged whole, kept for two seconds.

Belongs here: asking, and how long one answer serves. Does not belong here: the verdict on the addresses (`addresses`),
connecting to the one that was chosen (`pinned`).
"""

import asyncio
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sensors.webhooks.addresses import Address, Network, choose

# One verdict on a name serves the exchanges of a burst; every connection goes to an address that was checked.
VERDICT_SECONDS = 2.0
_MAX_VERDICTS = 1000
_THREADS = 32


class Resolver:
    """Of one event loop; owns threads, since a resolver that hangs can't be interrupted."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="webhook-resolver")
        self._verdicts: dict[str, tuple[float, asyncio.Future[Address]]] = {}

    async def address(self, host: str) -> Address:
        """The one address to connect to.

        Raises:
            OSError, UnicodeError: the name leads nowhere.
            ForbiddenAddressError: it leads to where no webhook may go.
        """
        now = time.monotonic()
        asked_at, verdict = self._verdicts.get(host, (now, None))
        # One that is still awaited is waited for by all: a name whose server hangs holds one thread, not all of them.
        if verdict is None or (verdict.done() and now - asked_at > VERDICT_SECONDS):
            if len(self._verdicts) >= _MAX_VERDICTS:
                self._verdicts.clear()
            verdict = asyncio.ensure_future(self._resolve(host))
            # Else a verdict that nobody waited for to its end would be complained about.
            verdict.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._verdicts[host] = now, verdict
        # Shielded: whoever's deadline comes first must not take the others' verdict away.
        return await asyncio.shield(verdict)

    def close(self) -> None:
        """Ask nothing more; not waited for, since a name server that hangs must hold up nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _resolve(self, host: str) -> Address:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
        return choose([str(entry[4][0]) for entry in found], self._allowed)
