"""`Idempotency-Key`: the answer to a request is kept for a day and given again to the same request.

After draft-ietf-httpapi-idempotency-key-header. The answer is stored in the transaction that lands the records, so that
one is never there without the other. Whoever answers a key holds a session's advisory lock on it, which ends with the
session: a crash leaves nothing to clean up.

Belongs here: keys, fingerprints, `access.idempotent_answers`. Does not belong here: what the answers say.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b, sha256
from http import HTTPStatus

from fastapi import Request

from gateway.problems import ProblemError
from storage.database import Connection

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
REUSED = "urn:tidemark:problem:idempotency-key-reused"
IN_WORK = "urn:tidemark:problem:idempotency-key-in-work"

_KEY = re.compile(r"[!-~]{1,255}")
_TRY_LOCK = "select pg_try_advisory_lock(%s, %s)"
_UNLOCK = "select pg_advisory_unlock(%s, %s)"

_STORED = """
select fingerprint, status, body from access.idempotent_answers
where
    tenant_id = %(tenant_id)s and idempotency_key = %(key)s
    and created_at > clock_timestamp() - interval '24 hours'
"""

# A row that stands in the way is older than a day, or it would have been replayed.
_STORE = """
insert into access.idempotent_answers (tenant_id, idempotency_key, fingerprint, status, body)
values (%(tenant_id)s, %(key)s, %(fingerprint)s, %(status)s, %(body)s)
on conflict (tenant_id, idempotency_key) do update
set
    fingerprint = excluded.fingerprint,
    status = excluded.status,
    body = excluded.body,
    created_at = excluded.created_at
"""

# Each answer stored takes a few old ones away, so that the table stays as large as a day.
_FORGET = """
delete from access.idempotent_answers
where (tenant_id, idempotency_key) in (
    select tenant_id, idempotency_key from access.idempotent_answers
    where created_at <= clock_timestamp() - interval '24 hours'
    order by created_at
    limit 10
    for update skip locked
)
"""


@dataclass(frozen=True)
class Answer:
    """A status and the bytes of a JSON body; `replayed` if they were given before."""

    status: int
    body: bytes
    replayed: bool = False


@dataclass(frozen=True)
class IdempotentRequest:
    """A tenant's request under a key; its fingerprint tells what was asked."""

    tenant_id: str
    key: str
    fingerprint: bytes


def idempotency_key(request: Request) -> str | None:
    """The request's key, if it has one.

    Raises:
        ProblemError: 400, it can't be a key.
    """
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        detail = f"{HEADER} must be given once, as 1 to 255 visible ASCII characters"
        raise ProblemError(HTTPStatus.BAD_REQUEST, detail)
    return given[0]


def fingerprint(*parts: bytes) -> bytes:
    """SHA-256 over the parts, each with its length, so that no two requests read as the same."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


@contextmanager
def in_work(connection: Connection, asked: IdempotentRequest) -> Iterator[Answer | None]:
    """Hold the key until the block ends, and tell the stored answer, if there is one.

    Args:
        connection: in autocommit mode.
        asked: the request.

    Raises:
        ProblemError: 409, another request with this key is being answered; 422, the key was used for another one.
    """
    lock = _lock_of(asked)
    if connection.execute(_TRY_LOCK, lock).fetchone() != (True,):
        detail = f"a request with this {HEADER} is being answered; send this again for its answer"
        raise ProblemError(HTTPStatus.CONFLICT, detail, headers={"Retry-After": "1"}, type=IN_WORK)
    try:
        yield _stored(connection, asked)
    finally:
        # A connection that broke gave the lock up by itself.
        if not connection.broken:
            connection.execute(_UNLOCK, lock)


def store(connection: Connection, asked: IdempotentRequest, answer: Answer) -> None:
    """Keep an answer in the caller's transaction."""
    connection.execute(
        _STORE,
        {
            "tenant_id": asked.tenant_id,
            "key": asked.key,
            "fingerprint": asked.fingerprint,
            "status": answer.status,
            "body": answer.body,
        },
    )
    connection.execute(_FORGET)


def _stored(connection: Connection, asked: IdempotentRequest) -> Answer | None:
    row = connection.execute(_STORED, {"tenant_id": asked.tenant_id, "key": asked.key}).fetchone()
    if row is None:
        return None
    if bytes(row[0]) != asked.fingerprint:
        detail = f"this {HEADER} was used for another request in the last 24 hours; a new request needs a new key"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, type=REUSED)
    return Answer(row[1], bytes(row[2]), replayed=True)


def _lock_of(asked: IdempotentRequest) -> tuple[int, int]:
    # In the space of two numbers, which no lock of `storage.locks` is in.
    digest = blake2b(f"{asked.tenant_id}\0{asked.key}".encode(), digest_size=8, person=b"idempotency").digest()
    return int.from_bytes(digest[:4], "big", signed=True), int.from_bytes(digest[4:], "big", signed=True)
