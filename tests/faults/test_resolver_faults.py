"""Name servers that lie, change their minds or hang. Guarantee: no packet leaves to an address that wasn't checked.

Every `connect` of this process is watched by Python itself (its audit event), so that one to a forbidden address can't
go unseen, whoever makes it.
"""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from delivering import LOOPBACK, SetClock, attempts, happen, send
from receiver import Receiver, receiving

from sensors.webhooks.registry import create_webhook
from sensors.webhooks.resolver import VERDICT_SECONDS
from sensors.webhooks.transport import Answer, Transport
from storage.database import Connection, Database
from storage.secrets import SecretBox

_watched: list[str] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect" and _watched is not None and isinstance(arguments[1], tuple):
        _watched.append(str(arguments[1][0]))


sys.addaudithook(_watch)


@pytest.fixture
def reached() -> Iterator[list[str]]:
    """The addresses that sockets are connected to during a test."""
    global _watched  # noqa: PLW0603 - an audit hook is for the process's life and can't be given anything
    _watched = []
    yield _watched
    _watched = None


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def box() -> SecretBox:
    return SecretBox(["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(keeps=True) as receiver:
        yield receiver


class NameServer:
    """What `*.test` resolves to; asked through `socket.getaddrinfo`, as everything here asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: Callable[[str], list[str]] = lambda _: []
        self.asked: list[str] = []
        self._resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)

    def _getaddrinfo(self, host: str, *args: object, **kwargs: object) -> object:
        if not host.endswith(".test"):
            return self._resolve(host, *args, **kwargs)  # type: ignore[arg-type]
        self.asked.append(host)
        answers = self.answers(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
            for address in answers
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameServer:
    return NameServer(monkeypatch)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "addresses",
    [
        ["10.0.0.1"],
        ["9.9.9.9", "10.0.0.1"],
        ["169.254.169.254", "9.9.9.9"],
        ["2620:fe::fe", "169.254.169.254"],
        ["9.9.9.9", "::1"],
        ["9.9.9.9", "::ffff:127.0.0.1"],
        ["9.9.9.9", "64:ff9b::7f00:1"],
        ["9.9.9.9", "2002:7f00:1::"],
        ["2620:fe::fe", "fe80::1"],
        ["9.9.9.9"] * 60 + ["0.0.0.0"],  # noqa: S104
    ],
)
def test_a_name_with_one_forbidden_address_among_any_is_refused_and_no_packet_leaves(
    names: NameServer, reached: list[str], scheme: str, addresses: list[str]
) -> None:
    names.answers = lambda _: addresses

    async def ask() -> Answer:
        async with Transport((), deadline=5.0) as transport:
            return await transport.post(f"{scheme}://mixed.test/hook", b"{}", {})

    told = asyncio.run(ask())
    assert told.status_code is None
    assert "is not public" in str(told.error)
    assert "TIDEMARK_WEBHOOK_ALLOWED_NETWORKS" in str(told.error)
    assert reached == []
    # The watch itself works.
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 1)):
        pass
    assert reached == ["127.0.0.1"]


def test_a_name_that_led_to_an_allowed_address_when_registered_is_judged_again_when_sent_to(
    connection: Connection,
    database: Database,
    tenant: str,
    box: SecretBox,
    clock: SetClock,
    receiver: Receiver,
    names: NameServer,
    reached: list[str],
) -> None:
    names.answers = lambda _: ["127.0.0.1"]
    url = f"http://fickle.test:{receiver.port}/hook"
    create_webhook(connection, box, tenant, url, now=clock.now(), allowed=LOOPBACK)
    happen(connection, tenant, clock, "one")
    names.answers = lambda _: ["10.0.0.1"]
    assert send(database, box, clock).retried == 1
    assert "10.0.0.1 is not public" in str(attempts(connection)[0][2])
    names.answers = lambda _: ["9.9.9.9"]
    clock.move(minutes=2)
    assert send(database, box, clock).retried == 1
    assert "plain http is only for" in str(attempts(connection)[1][2])
    assert (reached, receiver.connections) == ([], 0)
    names.answers = lambda _: ["127.0.0.1"]
    clock.move(minutes=10)
    assert send(database, box, clock).delivered == 1
    assert reached == ["127.0.0.1"]


def test_a_verdict_that_is_taken_up_again_keeps_its_address_and_an_old_one_is_asked_anew(
    receiver: Receiver, names: NameServer, reached: list[str]
) -> None:
    """What a name leads to changes with every question: within two seconds there is no second question."""
    names.answers = lambda _: ["127.0.0.1"] if len(names.asked) == 1 else ["10.0.0.1"]
    url = f"http://turning.test:{receiver.port}/hook"

    async def ask() -> None:
        async with Transport(LOOPBACK, deadline=5.0) as transport:
            started = time.monotonic()
            answers = [await transport.post(url, b"{}", {}) for _ in range(3)]
            # Told apart from a slow machine, on which the verdict may have grown old meanwhile.
            if time.monotonic() - started < VERDICT_SECONDS:
                assert [told.status_code for told in answers] == [200, 200, 200]
                assert names.asked == ["turning.test"]
            await asyncio.sleep(VERDICT_SECONDS + 0.1)
            # Its connection is kept no longer than its verdict, so this one can't ride on it either.
            told = await transport.post(url, b"{}", {})
            assert told.status_code is None
            assert "10.0.0.1 is not public" in str(told.error)

    asyncio.run(ask())
    assert names.asked == ["turning.test", "turning.test"]
    assert set(reached) == {"127.0.0.1"}


def test_a_name_server_that_hangs_costs_its_own_endpoint_the_deadline_and_one_thread_and_others_nothing(
    receiver: Receiver, names: NameServer, reached: list[str]
) -> None:
    released = threading.Event()

    def answers(host: str) -> list[str]:
        if host == "hanging.test":
            released.wait(60)
        return ["127.0.0.1"]

    names.answers = answers
    hanging, healthy = (f"http://{host}.test:{receiver.port}/hook" for host in ("hanging", "healthy"))

    async def ask() -> None:
        async with Transport(LOOPBACK, deadline=0.6 * VERDICT_SECONDS) as transport:
            for _ in range(3):
                posts = [transport.post(url, b"{}", {}) for url in [*[hanging] * 40, healthy]]
                *late, told = await asyncio.gather(*posts)
                assert told.status_code == 200
                assert {(one.status_code, one.error) for one in late} == {
                    (None, "no complete answer within 1.2 seconds")
                }
            # Asked when the verdict that nobody has yet is long past its time, and still not asked twice.
            assert names.asked.count("hanging.test") == 1
            released.set()
            assert (await transport.post(hanging, b"{}", {})).status_code == 200

    try:
        asyncio.run(ask())
    finally:
        released.set()
    assert set(reached) == {"127.0.0.1"}
