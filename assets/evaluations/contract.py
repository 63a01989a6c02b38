"""The record contract, version 1: which evaluations and feedback are admitted, and why one is refused.

Validation is strict: no number from a string or a boolean, no NaN, no field the contract doesn't know. The rules are
those of the table in README, section "The evaluation record".
"""

import uuid
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Generic, TypeVar, cast

import msgspec
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from assets.evaluations.duplicate_keys import first_repeated_key
from assets.evaluations.record_fields import (
    EARLIEST,
    NUL,
    Evaluation,
    Feedback,
    in_utc,
    plain_extractors,
    plain_features,
)

MAX_CLOCK_AHEAD = timedelta(minutes=5)

_COUNTS = frozenset(("fields_correct", "fields_total"))
_SCORES = frozenset(("drift_score", "reliability_score", "score"))
_CONTENT = blake2b(digest_size=16)
_NAMESPACE = uuid.UUID("6f1a3f0e-0e57-5c8e-9a3b-7a4b1a9b6d11")
_WRITER = msgspec.json.Encoder(order="deterministic")

Record = TypeVar("Record", Evaluation, Feedback)


class Refused(Exception):
    """A record that the contract doesn't admit: which field, a stable code, and the reason in words."""

    def __init__(self, field: str | None, code: str, reason: str) -> None:
        super().__init__(f"{field or 'record'}: {reason}")
        self.field = field
        self.code = code
        self.reason = reason


class Contract(Generic[Record]):
    """What one kind of record may be, and two readers for it.

    The quick one knows whether a record is admissible and written plainly, as nearly all are, at a quarter of the cost
    of the other; the thorough one decides about the rest and names what is wrong.
    """

    def __init__(self, record: type[Record]) -> None:
        self._thorough: TypeAdapter[Record] = TypeAdapter(record)
        self._quick = msgspec.json.Decoder(record)

    def json_schema(self) -> dict[str, Any]:
        """The contract for other programs, as JSON Schema."""
        schema: dict[str, Any] = self._thorough.json_schema()
        return schema

    def read(self, payload: bytes) -> tuple[Record, bytes]:
        """The fields that are not null, each admissible by itself, and their `canonical` form.

        Raises:
            Refused: it isn't an object of such fields.
        """
        return self.read_quickly(payload) or self.read_thoroughly(payload)

    def read_quickly(self, payload: bytes) -> tuple[Record, bytes] | None:
        """The same, or None where only the thorough reader can tell."""
        # A backslash may stand for anything, a NUL and a quote included.
        if b"\\" in payload:
            return None
        try:
            sent = self._quick.decode(payload)
            quotes, nulls = _quotes_and_nulls(sent)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, PydanticCustomError, _NotPlain):
            return None
        # Quotes stand around keys and strings: what the payload has more of them was said twice, or is of no field. A
        # parser that looks at keys costs ten times this.
        if payload.count(b'"') != quotes:
            return None
        record = _without_nulls(sent) if nulls else sent
        created_at = record.get("created_at")
        if created_at is not None and created_at.tzinfo is not UTC:
            record["created_at"] = created_at = in_utc(created_at)
        if created_at is not None and created_at < EARLIEST:
            return None
        eligible = record.get("eligible_extractors")
        if eligible is not None:
            cast(Evaluation, record)["eligible_extractors"] = sorted(eligible)
        return record, canonical(record)

    def read_thoroughly(self, payload: bytes) -> tuple[Record, bytes]:
        """The same as `read`, at more cost."""
        try:
            sent = self._thorough.validate_json(payload)
        except ValidationError as error:
            raise _first_problem(error) from None
        repeated = first_repeated_key(payload)
        if repeated is not None:
            raise Refused(_shown(repeated), "duplicate_key", "is said twice in one object: send each key once")
        record = _without_nulls(sent)
        return record, canonical(record)


EVALUATION = Contract(Evaluation)
FEEDBACK = Contract(Feedback)


def parse(contract: Contract[Record], payload: bytes, now: datetime) -> Record:
    """Judge one JSON document.

    Args:
        contract: EVALUATION or FEEDBACK.
        payload: the document's bytes, UTF-8.
        now: the server's time, aware; a record may be at most five minutes ahead of it.

    Returns:
        The fields that are not null.

    Raises:
        Refused: it isn't an admissible record.
    """
    return parse_with_content(contract, payload, now)[0]


def parse_with_content(contract: Contract[Record], payload: bytes, now: datetime) -> tuple[Record, bytes]:
    """The same, with the record's `canonical` form, which the judgement needs anyway."""
    record, content = contract.read(payload)
    created_at = record.get("created_at")
    if created_at is not None and created_at > now and created_at > now + MAX_CLOCK_AHEAD:
        raise Refused("created_at", "datetime_in_future", "is more than 5 minutes ahead of the server's clock")
    _require_content(record, contract is EVALUATION)
    return record, content


def canonical(record: Evaluation | Feedback) -> bytes:
    """The content of a record without nulls in one form, whatever its order or spacing: what equality is judged by."""
    return _WRITER.encode(record)


def has_feedback(record: Evaluation | Feedback) -> bool:
    """Whether a record without nulls says anything of how the result turned out."""
    return "success" in record or "fields_total" in record


def _without_nulls(sent: Record) -> Record:
    return cast(Record, {name: value for name, value in sent.items() if value is not None})


class _NotPlain(Exception):
    """A value that only the thorough reader can judge."""


def _quotes_and_nulls(sent: Evaluation | Feedback) -> tuple[int, int]:
    """With how many quotes a record without escapes is written, and how many of its fields are null.

    Raises:
        _NotPlain: a rule is broken that only the thorough reader knows; of features and extractors PydanticCustomError.
    """
    value: Any
    strings, nulls = len(sent), 0
    for value in sent.values():
        kind = value.__class__
        if kind is str:
            if value.isspace():
                raise _NotPlain
            strings += 1
        elif kind is float:
            continue
        elif value is None:
            nulls += 1
        elif kind is dict:
            strings += len(value) + sum(isinstance(feature, str) for feature in plain_features(value).values())
        elif kind is datetime or kind is uuid.UUID:
            strings += 1
        elif kind is list and value[0].__class__ is str:
            strings += len(plain_extractors(value))
    return 2 * strings, nulls


def _require_content(record: Evaluation | Feedback, is_evaluation: bool) -> None:
    if not _COUNTS.isdisjoint(record):
        correct, total = record.get("fields_correct"), record.get("fields_total")
        if correct is None or total is None:
            raise Refused(None, "fields_incomplete", "fields_correct and fields_total go together")
        if correct > total:
            raise Refused(None, "fields_exceed_total", "fields_correct must not exceed fields_total")
    if is_evaluation:
        eligible = cast(Evaluation, record).get("eligible_extractors")
        if eligible is not None:
            _require_own_choice(cast(Evaluation, record), eligible)
        if _SCORES.isdisjoint(record) and not record.get("features") and not has_feedback(record):
            raise Refused(
                None,
                "nothing_measured",
                "needs at least one of drift_score, reliability_score, score, features or feedback",
            )
        return
    if ("evaluation_id" in record) == ("record_id" in record):
        raise Refused(None, "evaluation_reference", "needs either evaluation_id or record_id, and not both")
    if not has_feedback(record):
        raise Refused(None, "nothing_measured", "needs success, or fields_correct with fields_total")


def _require_own_choice(record: Evaluation, eligible: list[str]) -> None:
    vendor, chosen = record["extractor_vendor"], f"{record['extractor_vendor']}/{record['extractor_model']}"
    if "/" in vendor:
        raise Refused(
            "extractor_vendor",
            "vendor_with_slash",
            "must have no slash where eligible_extractors are sent as vendor/model",
        )
    if chosen not in eligible:
        raise Refused(
            "eligible_extractors",
            "extractor_not_eligible",
            "must name the record's own extractor_vendor/extractor_model, which was chosen among them",
        )


def payload_hash(content: bytes) -> bytes:
    """16 bytes of BLAKE2b over a canonical record."""
    # Here and below a copy, which costs half of what it costs to begin.
    digest = _CONTENT.copy()
    digest.update(content)
    return digest.digest()


def record_key(tenant_id: str, record_id: str) -> bytes:
    """The idempotency key of a record: 16 bytes of BLAKE2b over tenant and record_id, small in an index."""
    digest = _begun_with(tenant_id).copy()
    digest.update(record_id.encode())
    return digest.digest()


@lru_cache(maxsize=1024)
def _begun_with(tenant_id: str) -> blake2b:
    return blake2b(f"{tenant_id}\0".encode(), digest_size=16, person=b"record")


def template_id(tenant_id: str, template: str) -> uuid.UUID:
    """The identifier of a tenant's template: a UUIDv5, so that every door makes the same one without asking."""
    return uuid.uuid5(_NAMESPACE, f"{tenant_id}\0{template}")


def derived_record_id(content: bytes) -> str:
    """The record_id of a record that came without one: a UUIDv5 of the canonical record."""
    return str(uuid.uuid5(_NAMESPACE, content.decode()))


def _first_problem(error: ValidationError) -> Refused:
    problem = error.errors(include_url=False)[0]
    if problem["type"] == "json_invalid":
        return Refused(None, "json_invalid", f"is not JSON: {problem['ctx']['error']}")
    depth = 2 if problem["loc"][:1] == ("features",) else 1
    field = _shown(".".join(str(part) for part in problem["loc"][:depth])) or None
    if problem["type"] == "extra_forbidden":
        return Refused(field, "unknown_field", "is not a field of the contract: remove it or move it into features")
    if problem["type"] == "string_pattern_mismatch":
        if "\x00" in problem["input"]:
            return Refused(field, "nul_character", NUL)
        return Refused(field, "string_blank", "is blank: it needs a character that one can see")
    return Refused(field, problem["type"], problem["msg"][:1].lower() + problem["msg"][1:])


def _shown(field: str) -> str:
    # A field's name is the sender's: it may be long, or hold the NUL that PostgreSQL can't store.
    return field[:200].replace("\x00", "\\0")
