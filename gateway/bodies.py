"""Bodies: read as a stream, unpacked, never larger than the cap, whatever the headers promise.

Belongs here: Content-Type, Content-Encoding, sizes and the time a body may take. Does not belong here: what the bytes
mean (`record_lines`, `documents`).
"""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from email.message import Message
from http import HTTPStatus

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from gateway.in_flight import InFlight, Reservation
from gateway.problems import ProblemError

MOST_BYTES = 8 * 1024 * 1024
MOST_RECORDS = 10_000
LIMITS = {"bytes": MOST_BYTES, "records": MOST_RECORDS}

# A body that took longer has its key looked at again: a revocation holds for what is under way too.
_SLOW_SECONDS = 1.0
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_GZIP_WINDOW = 31
_GZIP_MAGIC = b"\x1f\x8b"
_ENCODINGS = {"": False, "identity": False, "gzip": True, "x-gzip": True}
# A record may be a member of its own; empty ones without end would only cost time.
_MOST_MEMBERS = MOST_RECORDS


def media_type(request: Request, admitted: Collection[str]) -> str:
    """The body's type, one of the admitted, in UTF-8.

    Raises:
        ProblemError: 415, another type or another charset.
    """
    header = Message()
    header["Content-Type"] = request.headers.get("content-type", "")
    given = header.get_content_type() if header["Content-Type"] else ""
    if given not in admitted:
        detail = f"Content-Type must be one of {', '.join(admitted)}"
        raise _unsupported(detail, {"Accept": ", ".join(admitted)})
    charset = str(header.get_param("charset", "utf-8")).strip("\"'").lower()
    if charset not in ("utf-8", "utf8"):
        raise _unsupported("the charset must be utf-8", {"Accept": ", ".join(admitted)})
    return given


@asynccontextmanager
async def received(
    request: Request, budget: InFlight, seconds: float, *, limits: Mapping[str, int] = LIMITS
) -> AsyncIterator[bytes]:
    """The unpacked body; its bytes count as in flight until the block ends, which is after the answer is made.

    Args:
        request: nothing of its body has been read yet.
        budget: where its bytes are counted.
        seconds: how long it may take to arrive.
        limits: of them `bytes` is the cap, packed as well as unpacked; all of them are named where it is exceeded.

    Raises:
        ProblemError: 400 broken gzip, 401 the key was revoked meanwhile, 408 too slow, 413 too large, 415 another
            encoding, 503 the door is full.
    """
    packed = _is_packed(request)
    length = _content_length(request)
    if length > limits["bytes"]:
        raise too_large(f"the request has {length} bytes", {"bytes": length}, limits)
    began = asyncio.get_running_loop().time()
    with budget.reservation(length) as reservation:
        try:
            async with asyncio.timeout(seconds):
                body = await _read(request, packed, limits, reservation)
        except TimeoutError:
            detail = f"the body did not arrive within {seconds:g} s; nothing was landed"
            raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"Connection": "close"}) from None
        if asyncio.get_running_loop().time() - began > _SLOW_SECONDS:
            await run_in_threadpool(request.state.admit_again)
        yield body


def too_large(what: str, seen: Mapping[str, int], limits: Mapping[str, int] = LIMITS) -> ProblemError:
    """413, naming the limits and what was seen."""
    allowed = " and ".join(f"{most} {name}" for name, most in limits.items())
    detail = f"{what}; a request may have {allowed}, unpacked"
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, limits=dict(limits), seen=dict(seen))


def _unsupported(detail: str, headers: dict[str, str]) -> ProblemError:
    return ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers=headers)


def _is_packed(request: Request) -> bool:
    encoding = ",".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding not in _ENCODINGS:
        raise _unsupported("Content-Encoding must be gzip or identity", {"Accept-Encoding": "gzip, identity"})
    return _ENCODINGS[encoding]


def _content_length(request: Request) -> int:
    text = request.headers.get("content-length", "0")
    return int(text) if _LENGTH.fullmatch(text) else 0


async def _read(request: Request, packed: bool, limits: Mapping[str, int], reservation: Reservation) -> bytes:
    # Not a list of parts: a sender may make each of them one byte.
    body = bytearray()
    arrived, most_bytes = 0, limits["bytes"]
    unpacker = _Gunzip() if packed else None
    async for chunk in request.stream():
        arrived += len(chunk)
        part = chunk if unpacker is None else unpacker.feed(chunk, most_bytes + 1 - len(body))
        body += part
        seen = max(len(body), arrived)
        if seen > most_bytes:
            raise too_large(f"the body has more than {most_bytes} bytes", {"bytes": seen}, limits)
        reservation.grow(len(body))
    if unpacker is not None:
        unpacker.require_end()
    elif body.startswith(_GZIP_MAGIC):
        # Neither JSON nor protobuf begins like this.
        detail = "the body is gzip, but does not say so: send Content-Encoding: gzip; nothing was landed"
        raise ProblemError(HTTPStatus.BAD_REQUEST, detail)
    return bytes(body)


class _Gunzip:
    """Members of gzip, one after the other, never unpacked further than asked for."""

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None
        self._members = 0

    def feed(self, packed: bytes, room: int) -> bytes:
        """What the next bytes unpack to, at most `room` bytes of it."""
        parts: list[bytes] = []
        while packed and room > 0:
            member = self._member or self._next_member()
            try:
                part = member.decompress(packed, room)
            except zlib.error:
                raise _broken("it is corrupt") from None
            parts.append(part)
            room -= len(part)
            # What did not fit makes the body larger than its cap: nobody asks for it again.
            packed = member.unused_data
            self._member = None if member.eof else member
        return b"".join(parts)

    def require_end(self) -> None:
        """Go on only if the last member ended and was right to its checksum."""
        if self._member is not None or not self._members:
            raise _broken("it ends too early")

    def _next_member(self) -> "zlib._Decompress":
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise _broken(f"it has more than {_MOST_MEMBERS} members")
        return zlib.decompressobj(_GZIP_WINDOW)


def _broken(why: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, f"the body is said to be gzip, but {why}; nothing was landed")
