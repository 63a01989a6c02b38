"""The chain of seals over the audit log: what is hashed, how a seal follows from the one before, what is wrong in it.

The format, version 1. A *field* is a netstring: the length of its bytes in decimal, `:`, the bytes, `,`; one that is
null is `-,`. Text is UTF-8, a day is `2026-06-01`, a time `2026-06-01T12:00:00.000000Z`, a number decimal, a digest 32
bytes.

- An entry is the fields entry_id, tenant_id, at, actor, action, subject, detail; detail as PostgreSQL prints the jsonb.
- A day's `entries_digest` is the SHA-256 of its entries, one after the other, ordered by (at, entry_id).
- A seal's `digest` is the SHA-256 of the fields `tidemark-audit-seal-1`, day, entries, first_entry, last_entry,
  entries_digest, keep_from, sealed_at, previous_digest. The first seal's previous_digest is 32 zero bytes.

Whoever can rewrite all tables can also calculate such a chain anew: then only a digest that was kept elsewhere tells.
So each is told to Dagster's event log, and whatever was kept can be handed to `find_tampering` as a witness.

Belongs here: bytes and comparisons. Does not belong here: reading and writing them (`audit_seals`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import groupby, pairwise
from typing import Literal
from uuid import UUID

Kind = Literal["entry changed", "entry removed", "entry added", "seal changed", "day missing"]

_SEAL = "tidemark-audit-seal-1"
DIGEST_BYTES = 32
_NOTHING = bytes(DIGEST_BYTES)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Entry:
    """One row of the audit log; `detail` is the text of its jsonb, `at` is aware."""

    entry_id: UUID
    tenant_id: str | None
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str

    @property
    def day(self) -> date:
        """The UTC day that it belongs to."""
        return self.at.astimezone(UTC).date()

    def canonical(self) -> bytes:
        """Its bytes, as they are hashed."""
        return _fields(self.entry_id, self.tenant_id, self.at, self.actor, self.action, self.subject, self.detail)


@dataclass(frozen=True)
class Contents:
    """What a day's entries come to."""

    entries: int = 0
    first_entry: UUID | None = None
    last_entry: UUID | None = None
    entries_digest: bytes = sha256().digest()


@dataclass(frozen=True, kw_only=True)
class Seal(Contents):
    """One row of `access.audit_seals`."""

    day: date
    keep_from: date
    sealed_at: datetime
    previous_digest: bytes
    digest: bytes

    def calculated_digest(self) -> bytes:
        """The digest that its other fields come to."""
        contents = (self.entries, self.first_entry, self.last_entry, self.entries_digest)
        return sha256(
            _fields(_SEAL, self.day, *contents, self.keep_from, self.sealed_at, self.previous_digest)
        ).digest()

    @property
    def is_whole(self) -> bool:
        """Whether it is as it was sealed, as far as it can tell by itself."""
        return self.digest == self.calculated_digest()


@dataclass(frozen=True)
class Tampering:
    """Something that isn't as it was sealed: on which day, of what kind, and what is known of it."""

    day: date
    kind: Kind
    told: str

    def __str__(self) -> str:
        return f"{self.day}: {self.kind}: {self.told}"


def contents_of(entries: Iterable[Entry]) -> Contents:
    """What the entries of one day come to; they are ordered by (at, entry_id)."""
    digest, count = sha256(), 0
    first: UUID | None = None
    last: UUID | None = None
    for entry in entries:
        digest.update(entry.canonical())
        first, last, count = first or entry.entry_id, entry.entry_id, count + 1
    return Contents(count, first, last, digest.digest())


def contents_by_day(entries: Iterable[Entry]) -> dict[date, Contents]:
    """The same for every day that has entries."""
    return {day: contents_of(of_day) for day, of_day in groupby(entries, key=lambda entry: entry.day)}


def make_seal(contents: Contents, previous: Seal | None, *, day: date, keep_days: int, sealed_at: datetime) -> Seal:
    """The seal of a day: the next one after `previous`, or the first of all.

    Args:
        contents: the day's.
        previous: the seal of the day before.
        day: which day it is.
        keep_days: for how many days before the next one entries are kept; what was released once stays released.
        sealed_at: the time, aware.
    """
    keep_from = day + _DAY - timedelta(days=keep_days)
    seal = Seal(
        **vars(contents),
        day=day,
        keep_from=keep_from if previous is None else max(keep_from, previous.keep_from),
        sealed_at=sealed_at,
        previous_digest=_NOTHING if previous is None else previous.digest,
        digest=_NOTHING,
    )
    return replace(seal, digest=seal.calculated_digest())


def find_tampering(
    seals: Sequence[Seal], held: Mapping[date, Contents], witnesses: Mapping[date, bytes] | None = None
) -> list[Tampering]:
    """What is not as it was sealed, by day; empty where all is well.

    Args:
        seals: all there are, by day.
        held: what the entries that are there come to, by day. Days after the newest seal are not judged.
        witnesses: digests of seals by day, as they were kept elsewhere.
    """
    return sorted(
        {*_in_chain(seals), *_in_entries(seals, held), *_by_witnesses(seals, witnesses or {})},
        key=lambda tampering: (tampering.day, tampering.kind),
    )


def _in_chain(seals: Sequence[Seal]) -> Iterator[Tampering]:
    for seal in seals:
        if not seal.is_whole:
            yield Tampering(seal.day, "seal changed", "its digest is not that of its fields")
    if seals and seals[0].is_whole and seals[0].previous_digest != _NOTHING:
        yield Tampering(seals[0].day - _DAY, "day missing", "the oldest seal follows one that is gone")
    for before, seal in pairwise(seals):
        gap = (seal.day - before.day).days
        for offset in range(1, gap):
            yield Tampering(before.day + offset * _DAY, "day missing", "there is no seal of it")
        # Where one of the two is changed anyway, their link says no more.
        if gap == 1 and before.is_whole and seal.is_whole and seal.previous_digest != before.digest:
            yield Tampering(before.day, "seal changed", "the next day's seal was made after another one")


def _in_entries(seals: Sequence[Seal], held: Mapping[date, Contents]) -> Iterator[Tampering]:
    whole = {seal.day: seal for seal in seals if seal.is_whole}
    keep_from = max((seal.keep_from for seal in whole.values()), default=date.min)
    for day, seal in whole.items():
        found = held.get(day, Contents())
        released = day < keep_from and found.entries == 0
        if not released and found != Contents(seal.entries, seal.first_entry, seal.last_entry, seal.entries_digest):
            yield Tampering(day, _what_was_done(seal, found), f"{found.entries} entries, sealed were {seal.entries}")
    is_first_of_all = bool(seals) and seals[0].previous_digest == _NOTHING
    for day, found in held.items():
        if is_first_of_all and day < seals[0].day:
            yield Tampering(day, "entry added", f"{found.entries} entries of a day before the first seal")


def _what_was_done(seal: Seal, found: Contents) -> Kind:
    if found.entries == seal.entries:
        return "entry changed"
    return "entry added" if found.entries > seal.entries else "entry removed"


def _by_witnesses(seals: Sequence[Seal], witnesses: Mapping[date, bytes]) -> Iterator[Tampering]:
    kept = {seal.day: seal.digest for seal in seals}
    for day, digest in witnesses.items():
        if day not in kept:
            yield Tampering(day, "day missing", f"its seal {digest.hex()} was told elsewhere and is gone")
        elif kept[day] != digest:
            yield Tampering(day, "seal changed", f"elsewhere it was told as {digest.hex()}")


def _fields(*values: object) -> bytes:
    return b"".join(map(_field, values))


def _field(value: object) -> bytes:
    if value is None:
        return b"-,"
    if isinstance(value, datetime):
        value = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    content = value if isinstance(value, bytes) else str(value).encode()
    return b"%d:%b," % (len(content), content)
