"""The chain of seals: whatever single thing is changed in it or under it is found, with its day and its kind."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from hypothesis import assume, given
from hypothesis import strategies as st

from storage.audit_chain import Contents, Entry, Seal, contents_by_day, find_tampering, make_seal

FIRST = date(2026, 6, 1)
DAYS = 6
KEEP = 40
SEALED_AT = datetime(2026, 7, 1, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def _entries(draws: Sequence[tuple[int, int, str]]) -> list[Entry]:
    return sorted(
        (
            Entry(
                UUID(int=number),
                None if number % 3 else "acme",
                datetime(2026, 6, 1 + day, tzinfo=UTC) + timedelta(microseconds=moment),
                "somebody",
                text,
                text,
                "{}",
            )
            for number, (day, moment, text) in enumerate(draws, start=1)
        ),
        key=lambda entry: (entry.at, entry.entry_id),
    )


logs = st.lists(st.tuples(st.integers(0, DAYS - 1), st.integers(0, 86_399_999_999), texts), max_size=12).map(_entries)


def _sealed(entries: list[Entry], keep_days: int = KEEP) -> list[Seal]:
    held = contents_by_day(entries)
    seals: list[Seal] = []
    for offset in range(DAYS):
        day = FIRST + timedelta(days=offset)
        before = seals[-1] if seals else None
        sealed = make_seal(held.get(day, Contents()), before, day=day, keep_days=keep_days, sealed_at=SEALED_AT)
        seals.append(sealed)
    return seals


def _found(seals: list[Seal], entries: list[Entry], **witnesses: object) -> set[tuple[date, str]]:
    held = contents_by_day(sorted(entries, key=lambda entry: (entry.at, entry.entry_id)))
    return {(found.day, found.kind) for found in find_tampering(seals, held, **witnesses)}  # type: ignore[arg-type]


changes = st.one_of(
    st.tuples(st.just("tenant_id"), st.none() | texts),
    st.tuples(st.sampled_from(["actor", "action", "subject", "detail"]), texts),
    st.tuples(st.just("entry_id"), st.integers(0, 2**128 - 1).map(lambda number: UUID(int=number))),
    st.tuples(st.just("at"), st.integers(0, 86_399_999_999).map(lambda moment: timedelta(microseconds=moment))),
)


@given(logs, changes, st.data())
def test_any_change_of_an_entry_is_found_and_its_day_named(
    entries: list[Entry], change: tuple[str, object], data: st.DataObject
) -> None:
    seals = _sealed(entries)
    assert _found(seals, entries) == set()
    assume(entries)
    entry = data.draw(st.sampled_from(entries))
    name, value = change
    if isinstance(value, timedelta):
        value = datetime(entry.at.year, entry.at.month, entry.at.day, tzinfo=UTC) + value
    changed = replace(entry, **{name: value})
    assume(changed != entry)
    rest = [other for other in entries if other is not entry]
    assert _found(seals, [*rest, changed]) == {(entry.day, "entry changed")}
    assert _found(seals, rest) == {(entry.day, "entry removed")}


@given(logs, st.integers(-3, DAYS - 1), st.integers(0, 86_399_999_999))
def test_an_entry_added_to_a_sealed_day_or_to_one_before_the_chain_is_found(
    entries: list[Entry], offset: int, moment: int
) -> None:
    seals = _sealed(entries)
    at = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(days=offset, microseconds=moment)
    added = Entry(UUID(int=999), None, at, "", "", "", "")
    assert _found(seals, [*entries, added]) == {(added.day, "entry added")}
    later = replace(added, at=at + timedelta(days=DAYS + 3))
    assert _found(seals, [*entries, later]) == set(), "a day that is not sealed yet is not judged"


seal_changes = st.one_of(
    st.tuples(st.just("entries"), st.integers(0, 20)),
    st.tuples(st.sampled_from(["first_entry", "last_entry"]), st.none() | st.just(UUID(int=5))),
    st.tuples(st.sampled_from(["entries_digest", "previous_digest", "digest"]), st.binary(min_size=32, max_size=32)),
    st.tuples(st.just("keep_from"), st.dates(date(2020, 1, 1), date(2030, 1, 1))),
    st.tuples(st.just("sealed_at"), st.integers(1, 10**9).map(lambda more: SEALED_AT + timedelta(microseconds=more))),
)


@given(logs, seal_changes, st.integers(0, DAYS - 1), st.booleans())
def test_any_change_of_a_seal_is_found_and_its_day_named(
    entries: list[Entry], change: tuple[str, object], place: int, is_made_to_fit: bool
) -> None:
    seals = _sealed(entries)
    name, value = change
    changed = replace(seals[place], **{name: value})  # type: ignore[arg-type]
    assume(changed != seals[place])
    witness = {seals[-1].day: seals[-1].digest}
    if is_made_to_fit and name != "digest":
        # Calculated anew, so that the seal fits itself: then the next one tells, or what was kept elsewhere.
        changed = replace(changed, digest=changed.calculated_digest())
    found = _found([*seals[:place], changed, *seals[place + 1 :]], entries, witnesses=witness)
    assert any(kind == "seal changed" for _, kind in found)
    neighbours = {seals[max(place - 1, 0)].day, seals[place].day}
    assert {day for day, kind in found if kind == "seal changed"} <= neighbours
    assert (seals[place].day, "seal changed") in found or name == "previous_digest"


@given(logs, st.integers(0, DAYS - 1))
def test_a_seal_that_is_gone_is_a_day_missing(entries: list[Entry], place: int) -> None:
    seals = _sealed(entries)
    left = [*seals[:place], *seals[place + 1 :]]
    witness = {seals[-1].day: seals[-1].digest}
    assert (seals[place].day, "day missing") in _found(left, entries, witnesses=witness)
    assert {kind for _, kind in _found(left, entries, witnesses=witness)} == {"day missing"}


@given(logs)
def test_released_entries_may_be_gone_but_only_whole_days_of_them(entries: list[Entry]) -> None:
    seals = _sealed(entries, keep_days=3)
    keep_from = FIRST + timedelta(days=DAYS - 3)
    assert seals[-1].keep_from == keep_from
    assert _found(seals, [entry for entry in entries if entry.day >= keep_from]) == set()
    released = [entry for entry in entries if entry.day < keep_from]
    counts = contents_by_day(entries)
    for entry in released:
        expected = set() if counts[entry.day].entries == 1 else {(entry.day, "entry removed")}
        assert _found(seals, [other for other in entries if other is not entry]) == expected


def test_the_bytes_are_those_of_the_documented_format() -> None:
    at = datetime(2026, 6, 1, 12, 30, 0, 5, tzinfo=UTC)
    entry = Entry(UUID(int=1), None, at, "ä", "key.create", "k", '{"a": 1}')
    assert entry.canonical() == (
        b"36:00000000-0000-0000-0000-000000000001,-,27:2026-06-01T12:30:00.000005Z,2:\xc3\xa4,10:key.create,1:k,"
        b'8:{"a": 1},'
    )
    seal = make_seal(contents_by_day([entry])[FIRST], None, day=FIRST, keep_days=90, sealed_at=at)
    assert seal.entries_digest == sha256(entry.canonical()).digest()
    number = b"36:00000000-0000-0000-0000-000000000001,"
    fields = (
        b"21:tidemark-audit-seal-1,10:2026-06-01,1:1,"
        + number
        + number
        + b"32:"
        + seal.entries_digest
        + b",10:2026-03-04,"
        b"27:2026-06-01T12:30:00.000005Z,32:" + bytes(32) + b","
    )
    assert seal.digest == sha256(fields).digest()
