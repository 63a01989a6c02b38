"""Who is at the door: the header `X-API-Key`, remembered for a moment, and the scope that a route asks for.

Belongs here: 401 and 403. Does not belong here: what a key is and where it is kept (`storage.api_keys`).
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader

from gateway.networks import is_near
from gateway.observation import notes_of
from gateway.options import Network
from gateway.problems import ProblemError
from storage.api_keys import ApiKey, Scope, verify_key
from storage.clock import Clock
from storage.key_texts import KeyRefusedError, KeyText
from storage.pool import Pool

# A revocation is seen after at most this long; without it each request would ask the database twice.
REMEMBERED = timedelta(seconds=2)

_MOST_REMEMBERED = 1000
_CHALLENGE = {"WWW-Authenticate": 'ApiKey realm="tidemark"'}
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="Made by `tidemark key create`.")

Presented = Annotated[str | None, Security(_HEADER)]
Guard = Callable[[Request, Presented], ApiKey]


class Keyring:
    """Recognizes keys, asking the database for each at most once in `REMEMBERED`."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._known: dict[bytes, tuple[datetime, ApiKey]] = {}

    def recognize(self, presented: str) -> ApiKey:
        """Whom a presented key speaks for.

        Raises:
            KeyRefusedError: nobody.
        """
        now = self._clock.now()
        # By hash, so that no secret lies in memory longer than its request.
        mark = sha256(presented.encode()).digest()
        asked_at, key = self._known.get(mark, (None, None))
        if asked_at is None or key is None or not timedelta(0) <= now - asked_at < REMEMBERED:
            self._known.pop(mark, None)
            with self._pool.connection() as connection:
                key = verify_key(connection, presented, now=now)
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[mark] = (now, key)
        key.require_live(now)
        return key


def guard(keyring: Keyring, scope: Scope, admin_networks: Sequence[Network] = ()) -> Guard:
    """A dependency that lets only keys of this scope pass, and hands the route the key.

    It leaves itself in `request.state.admit_again`, for a body that takes long to arrive (`bodies.received`).

    Args:
        keyring: recognizes keys.
        scope: what a key must have.
        admin_networks: if any, what needs scope admin is open to their peers and loopback alone.
    """

    def required(request: Request, presented: Presented) -> ApiKey:
        request.state.admit_again = lambda: required(request, presented)
        notes = notes_of(request)
        if not presented:
            notes.facts["refused"] = "no key"
            raise ProblemError(HTTPStatus.UNAUTHORIZED, "send your key in the header X-API-Key", headers=_CHALLENGE)
        try:
            notes.facts["key_id"] = KeyText.parse(presented).key_id
            key = keyring.recognize(presented)
        except KeyRefusedError as refused:
            notes.facts["refused"] = str(refused)
            raise ProblemError(HTTPStatus.UNAUTHORIZED, str(refused), headers=_CHALLENGE) from None
        notes.tenant = key.tenant_id
        if scope not in key.scopes:
            detail = f"this needs a key of scope {scope}; yours has {', '.join(key.scopes)}"
            raise ProblemError(HTTPStatus.FORBIDDEN, detail, missing_scope=scope)
        if scope == "admin" and admin_networks and not is_near(request, admin_networks):
            raise ProblemError(
                HTTPStatus.FORBIDDEN, "administration is not open to your network (TIDEMARK_ADMIN_NETWORKS)"
            )
        return key

    return required
