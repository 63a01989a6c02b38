"""`python -m sensors.dispatcher`: alerts judged and webhooks sent as soon as PostgreSQL says that there is something.

Belongs here: the process, woken by what landings and the outbox notify. Does not belong here: judging
(`sensors.alerts`) and delivering (`sensors.webhooks`), which the sensors `alerts` and `webhook_deliveries` do as well,
more slowly, where no dispatcher runs. Any number of dispatchers may run at once.

A notification only says to look now. One that is lost costs seconds: this process looks every five by itself.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from sensors.alerts.scan import scan
from sensors.outbox import CHANNEL
from sensors.webhooks.delivery import Deliverer, Options
from sensors.webhooks.lanes import Lane
from sensors.webhooks.transport import Transport
from storage.clock import Clock
from storage.database import Connection, Database, open_database
from storage.errors import TidemarkError, UsageError
from storage.listening import Ears, listen
from storage.logging import configure_logging
from storage.secrets import SecretBox, secret_box
from storage.settings import load_settings

WORKER = "dispatcher"
BATCHES = "tidemark_batches"
CONCURRENCY = 256
_LOOK_SECONDS = 5.0
# Landings come in crowds: those of a moment are judged together.
_SCAN_APART_SECONDS = 0.03
_GRACE_SECONDS = 10.0

_log = structlog.get_logger()


@dataclass(frozen=True)
class Dispatcher:
    """The process's work, without the process.

    Attributes:
        database: whose outbox; it may go away and come back.
        box: opens the endpoints' secrets.
        clock: decides what is due.
        options: how to deliver.
        scans: whether to judge what lands, too.
    """

    database: Database
    box: SecretBox
    clock: Clock
    options: Options
    scans: bool = True

    async def run(self, stopped: asyncio.Event) -> None:
        """Work until `stopped`; then let what is under way come to its end, for ten seconds."""
        options = self.options
        connect = lambda: self.database.connect(autocommit=True)  # noqa: E731
        delivering, scanning = Lane(connect, patient=True), Lane(connect, patient=True)
        landed = asyncio.Event()
        async with Transport(options.allowed, deadline=options.deadline, verify=options.verify) as transport:
            deliverer = Deliverer(delivering, self.box, self.clock, options, transport)
            ears: Ears = {CHANNEL: lambda _: deliverer.wake(), BATCHES: lambda _: landed.set()}
            beside = [asyncio.create_task(listen(self.database.platform, ears))]
            beside += [asyncio.create_task(_for_ever(lambda: self._scan(scanning, landed)))] if self.scans else []
            beside += [asyncio.create_task(_pass_on(stopped, deliverer.wake))]
            try:
                await deliverer.until(stopped, WORKER, _GRACE_SECONDS)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                delivering.close()
                scanning.close()

    async def _scan(self, lane: Lane, landed: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await landed.wait()
        landed.clear()

        def judge(connection: Connection) -> bool:
            return scan(connection, self.clock.now()).more

        while await lane.run(judge):
            pass
        await asyncio.sleep(_SCAN_APART_SECONDS)


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            # What a scan can't read stops no delivery; the sensor's tick shows the same error to people.
            _log.exception("the scan for alerts broke")
            await asyncio.sleep(_LOOK_SECONDS)


async def _pass_on(stopped: asyncio.Event, wake: Callable[[], None]) -> None:
    await stopped.wait()
    wake()


def dispatch(database: Database, box: SecretBox, clock: Clock, options: Options) -> None:
    """Work until SIGINT or SIGTERM."""
    asyncio.run(_until_signalled(Dispatcher(database, box, clock, options)))


async def _until_signalled(dispatcher: Dispatcher) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    _log.info("dispatching", database=dispatcher.database.platform.masked())
    await dispatcher.run(stopped)


def main() -> None:
    """Serve: exit 1 if the deployment can't be opened and 2 on wrong settings, with a message and no traceback."""
    try:
        settings = load_settings()
        configure_logging(settings)
        options = Options(
            allowed=settings.webhook_allowed_networks, concurrency=CONCURRENCY, page_url=settings.page_url
        )
        dispatch(open_database(settings), secret_box(settings), Clock(), options)
    except TidemarkError as error:
        sys.stderr.write(f"dispatcher: {error}\n")
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from None


if __name__ == "__main__":
    main()
