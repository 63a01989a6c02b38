"""The record contract, version 1: what an evaluation and a feedback may look like, and why one is refused.

Validation is strict: no number from a string or a boolean, no NaN, no field the contract doesn't know. The rules are
those of the table in README, section "The evaluation record".
"""

import math
import re
import uuid
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, Literal, Required, TypeVar, cast

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic takes the standard library's from Python 3.12 on

from assets.evaluations.duplicate_keys import first_repeated_key

MAX_FEATURES_BYTES = 64 * 1024
MAX_CLOCK_AHEAD = timedelta(minutes=5)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
EMBEDDING_LENGTH = 384
_LARGEST_HALF = 65504.0  # embeddings are stored as halfvec
_COUNTS = frozenset(("fields_correct", "fields_total"))
_SCORES = frozenset(("drift_score", "reliability_score", "score"))

# A pattern and not a function, which would cost each string of each record a call into Python.
_NEITHER_NUL_NOR_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_NUL = "has a NUL character, which PostgreSQL can't store: remove it"
_CONTENT = blake2b(digest_size=16)
_NAMESPACE = uuid.UUID("6f1a3f0e-0e57-5c8e-9a3b-7a4b1a9b6d11")


def _time(value: object) -> datetime:
    # Parsed here and not by pydantic, which would take "1700000000" for a time too.
    if not isinstance(value, str):
        raise PydanticCustomError("datetime_type", "input should be a valid datetime, as a string")
    try:
        time = datetime.fromisoformat(value.upper()) if _RFC3339.fullmatch(value) else None
    except ValueError:
        time = None
    if time is None:
        raise PydanticCustomError(
            "datetime_format", "must be an RFC 3339 time with an offset, such as 2026-05-01T12:00:00Z"
        )
    if time.tzinfo is not UTC:
        time = _in_utc(time)
    if time < EARLIEST:
        raise PydanticCustomError("datetime_too_early", "must not be before 2000-01-01")
    return time


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _plain_features(value: dict[str, Any]) -> dict[str, Any]:
    for name, item in value.items():
        if "\x00" in name or (isinstance(item, str) and "\x00" in item):
            raise PydanticCustomError("nul_character", _NUL)
        if isinstance(item, float) and not math.isfinite(item):
            raise PydanticCustomError("finite_number", "feature {name} must be finite", {"name": name})
        if isinstance(item, int) and abs(item) >= 2**63:
            raise PydanticCustomError("number_too_large", "feature {name} must fit 64 bits", {"name": name})
    if len(orjson.dumps(value)) > MAX_FEATURES_BYTES:
        raise PydanticCustomError("features_too_large", "must be at most 64 KiB of JSON")
    return value


Text100 = Annotated[str, Field(min_length=1, max_length=100, pattern=_NEITHER_NUL_NOR_BLANK)]
Text200 = Annotated[str, Field(min_length=1, max_length=200, pattern=_NEITHER_NUL_NOR_BLANK)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Time = Annotated[datetime, PlainValidator(_time, json_schema_input_type=AwareDatetime)]
EmbeddingValue = Annotated[float, Field(ge=-_LARGEST_HALF, le=_LARGEST_HALF, allow_inf_nan=False)]
Feature = float | int | str | bool | None
Features = Annotated[dict[str, Feature], AfterValidator(_plain_features)]
# The upper bounds are PostgreSQL's integer: without them one huge count would fail its whole batch.
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Total = Annotated[int, Field(ge=1, le=2**31 - 1)]


# Dictionaries and not models, which would cost half as much again on the hottest path.
_STRICT = ConfigDict(strict=True, extra="forbid")


class Evaluation(TypedDict, total=False):
    """One evaluation record, as a pipeline sends it; the rules that concern several fields are in `parse`."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    record_id: Text200 | None
    evaluation_id: uuid.UUID | None
    template: Required[Text200]
    template_version: Text100 | None
    extractor_vendor: Required[Text100]
    extractor_model: Required[Text100]
    drift_score: Fraction | None
    reliability_score: Fraction | None
    decision: Literal["accept", "review", "reject"] | None
    created_at: Required[Time]
    features: Features | None
    embedding: Annotated[list[EmbeddingValue], Field(min_length=EMBEDDING_LENGTH, max_length=EMBEDDING_LENGTH)] | None
    score: Annotated[float, Field(allow_inf_nan=False)] | None
    label: Text100 | None
    propensity: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None
    batch_key: Text200 | None
    correlation_id: Text200 | None
    success: bool | None
    fields_correct: Count | None
    fields_total: Total | None


class Feedback(TypedDict, total=False):
    """What turned out later about one evaluation; the rules that concern several fields are in `parse`."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    evaluation_id: uuid.UUID | None
    record_id: Text200 | None
    feedback_key: Text200 | None
    created_at: Time | None
    success: bool | None
    fields_correct: Count | None
    fields_total: Total | None


EVALUATION = TypeAdapter(Evaluation)
FEEDBACK = TypeAdapter(Feedback)


class Refused(Exception):
    """A record that the contract doesn't admit: which field, a stable code, and the reason in words."""

    def __init__(self, field: str | None, code: str, reason: str) -> None:
        super().__init__(f"{field or 'record'}: {reason}")
        self.field = field
        self.code = code
        self.reason = reason


Record = TypeVar("Record", Evaluation, Feedback)


def parse(adapter: TypeAdapter[Record], payload: bytes, now: datetime) -> Record:
    """Judge one JSON document.

    Args:
        adapter: EVALUATION or FEEDBACK.
        payload: the document's bytes, UTF-8.
        now: the server's time, aware; a record may be at most five minutes ahead of it.

    Returns:
        The fields that are not null.

    Raises:
        Refused: it isn't an admissible record.
    """
    return parse_with_content(adapter, payload, now)[0]


def parse_with_content(adapter: TypeAdapter[Record], payload: bytes, now: datetime) -> tuple[Record, bytes]:
    """The same, with the record's `canonical` form, which the judgement needs anyway."""
    try:
        sent = adapter.validate_json(payload)
    except ValidationError as error:
        raise _first_problem(error) from None
    record = _without_nulls(sent)
    content = canonical(record)
    # Without a backslash a quote stands nowhere but around a key or a string, so that what the payload has more of them
    # than its own content was said twice, or is the name of a null. A parser that looks at keys costs ten times this.
    nulls = len(sent) - len(record)
    if b"\\" in payload or payload.count(b'"') != content.count(b'"') + 2 * nulls:
        _refuse_repeated_keys(payload)
    created_at = record.get("created_at")
    if created_at is not None and created_at > now and created_at > now + MAX_CLOCK_AHEAD:
        raise Refused("created_at", "datetime_in_future", "is more than 5 minutes ahead of the server's clock")
    _require_content(record, adapter is EVALUATION)
    return record, content


def canonical(record: Evaluation | Feedback) -> bytes:
    """The content of a record without nulls in one form, whatever its order or spacing: what equality is judged by."""
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def has_feedback(record: Evaluation | Feedback) -> bool:
    """Whether a record without nulls says anything of how the result turned out."""
    return "success" in record or "fields_total" in record


def _without_nulls(record: Record) -> Record:
    if None in record.values():
        return cast(Record, {name: value for name, value in record.items() if value is not None})
    return record


def _refuse_repeated_keys(payload: bytes) -> None:
    repeated = first_repeated_key(payload)
    if repeated is not None:
        raise Refused(_shown(repeated), "duplicate_key", "is said twice in one object: send each key once")


def _require_content(record: Evaluation | Feedback, is_evaluation: bool) -> None:
    if not _COUNTS.isdisjoint(record):
        correct, total = record.get("fields_correct"), record.get("fields_total")
        if correct is None or total is None:
            raise Refused(None, "fields_incomplete", "fields_correct and fields_total go together")
        if correct > total:
            raise Refused(None, "fields_exceed_total", "fields_correct must not exceed fields_total")
    if is_evaluation:
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


def payload_hash(content: bytes) -> bytes:
    """16 bytes of BLAKE2b over a canonical record."""
    return _digest(_CONTENT, content)


def record_key(tenant_id: str, record_id: str) -> bytes:
    """The idempotency key of a record: 16 bytes of BLAKE2b over tenant and record_id, small in an index."""
    return _digest(_begun_with(tenant_id), record_id.encode())


@lru_cache(maxsize=1024)
def _begun_with(tenant_id: str) -> blake2b:
    return blake2b(f"{tenant_id}\0".encode(), digest_size=16, person=b"record")


def _digest(begun: blake2b, rest: bytes) -> bytes:
    # A copy costs half of what it costs to begin.
    digest = begun.copy()
    digest.update(rest)
    return digest.digest()


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
            return Refused(field, "nul_character", _NUL)
        return Refused(field, "string_blank", "is blank: it needs a character that one can see")
    return Refused(field, problem["type"], problem["msg"][:1].lower() + problem["msg"][1:])


def _shown(field: str) -> str:
    # A field's name is the sender's: it may be long, or hold the NUL that PostgreSQL can't store.
    return field[:200].replace("\x00", "\\0")
