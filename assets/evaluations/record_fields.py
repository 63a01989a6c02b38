"""The fields of an evaluation and of a feedback, version 1 of the record contract, and what each may hold.

Belongs here: what can be said of one field by itself. Does not belong here: rules that concern several, identity, and
the words in which a record is refused (`contract`).
"""

import math
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Required

import msgspec
import orjson
from msgspec import Meta
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic takes the standard library's from Python 3.12 on

MAX_FEATURES_BYTES = 64 * 1024
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
EMBEDDING_LENGTH = 384
NUL = "has a NUL character, which PostgreSQL can't store: remove it"
_LARGEST_HALF = 65504.0  # embeddings are stored as halfvec
_LARGEST_INTEGER = 2**31 - 1  # PostgreSQL's: a larger count would fail its whole batch
# Beyond these a unit was mistaken: a million dollars for one result, eleven days for it.
_LARGEST_COST = 1e6
_LARGEST_LATENCY = 1e9
_MOST_EXTRACTORS = 100
_LONGEST_NAME = 100

# A pattern and not a function, which would cost each string of each record a call into Python.
_NEITHER_NUL_NOR_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"
_AnyTime = Annotated[datetime, Meta(tz=True)]


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise PydanticCustomError("datetime_type", "input should be a valid datetime, as a string")
    try:
        time = in_utc(msgspec.convert(value, _AnyTime))
    except msgspec.ValidationError:
        raise PydanticCustomError(
            "datetime_format", "must be an RFC 3339 time with an offset, such as 2026-05-01T12:00:00Z"
        ) from None
    if time < EARLIEST:
        raise PydanticCustomError("datetime_too_early", "must not be before 2000-01-01")
    return time


def in_utc(value: datetime) -> datetime:
    """The same instant; of one before the year 1, the first that there is."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def plain_features(value: dict[str, Any]) -> dict[str, Any]:
    """The features, if PostgreSQL can keep them.

    Raises:
        PydanticCustomError: a NUL, a number that isn't finite or doesn't fit 64 bits, or too much of it.
    """
    for name, item in value.items():
        if "\x00" in name or (isinstance(item, str) and "\x00" in item):
            raise PydanticCustomError("nul_character", NUL)
        if isinstance(item, float) and not math.isfinite(item):
            raise PydanticCustomError("finite_number", "feature {name} must be finite", {"name": name})
        if isinstance(item, int) and abs(item) >= 2**63:
            raise PydanticCustomError("number_too_large", "feature {name} must fit 64 bits", {"name": name})
    if len(orjson.dumps(value)) > MAX_FEATURES_BYTES:
        raise PydanticCustomError("features_too_large", "must be at most 64 KiB of JSON")
    return value


def plain_extractors(value: list[str]) -> list[str]:
    """The extractors in order, so that the same choice told in another order is the same record.

    Raises:
        PydanticCustomError: one is not of the form `vendor/model`, or comes twice.
    """
    for item in value:
        if "\x00" in item:
            raise PydanticCustomError("nul_character", NUL)
        # A model's name may have slashes, a vendor's can't: so that each text is one extractor.
        if not all(part.strip() and len(part) <= _LONGEST_NAME for part in item.partition("/")[::2]):
            raise PydanticCustomError(
                "extractor_form",
                "must each be vendor/model, with 1 to 100 characters on either side of the first slash",
            )
    if len(set(value)) < len(value):
        raise PydanticCustomError("extractor_twice", "must name each extractor once")
    return sorted(value)


# Twice what each may hold, for the two readers of `contract`; msgspec's leaves out what would cost it much.
Text100 = Annotated[
    str, Field(min_length=1, max_length=100, pattern=_NEITHER_NUL_NOR_BLANK), Meta(min_length=1, max_length=100)
]
Text200 = Annotated[
    str, Field(min_length=1, max_length=200, pattern=_NEITHER_NUL_NOR_BLANK), Meta(min_length=1, max_length=200)
]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[Finite, Field(ge=0, le=1), Meta(ge=0, le=1)]
Probability = Annotated[Finite, Field(gt=0, le=1), Meta(gt=0, le=1)]
Cost = Annotated[Finite, Field(ge=0, le=_LARGEST_COST), Meta(ge=0, le=_LARGEST_COST)]
Latency = Annotated[Finite, Field(ge=0, le=_LARGEST_LATENCY), Meta(ge=0, le=_LARGEST_LATENCY)]
Extractors = Annotated[
    list[str],
    Field(min_length=1, max_length=_MOST_EXTRACTORS),
    AfterValidator(plain_extractors),
    Meta(min_length=1, max_length=_MOST_EXTRACTORS),
]
Time = Annotated[datetime, PlainValidator(_time, json_schema_input_type=AwareDatetime), Meta(tz=True)]
EmbeddingValue = Annotated[
    Finite, Field(ge=-_LARGEST_HALF, le=_LARGEST_HALF), Meta(ge=-_LARGEST_HALF, le=_LARGEST_HALF)
]
Embedding = Annotated[
    list[EmbeddingValue],
    Field(min_length=EMBEDDING_LENGTH, max_length=EMBEDDING_LENGTH),
    Meta(min_length=EMBEDDING_LENGTH, max_length=EMBEDDING_LENGTH),
]
Feature = float | int | str | bool | None
Features = Annotated[dict[str, Feature], AfterValidator(plain_features)]
Count = Annotated[int, Field(ge=0, le=_LARGEST_INTEGER), Meta(ge=0, le=_LARGEST_INTEGER)]
Total = Annotated[int, Field(ge=1, le=_LARGEST_INTEGER), Meta(ge=1, le=_LARGEST_INTEGER)]


# Dictionaries and not models, which would cost half as much again on the hottest path.
_STRICT = ConfigDict(strict=True, extra="forbid")


class Evaluation(TypedDict, total=False):
    """One evaluation record, as a pipeline sends it; the rules that concern several fields are in `contract`."""

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
    embedding: Embedding | None
    score: Finite | None
    label: Text100 | None
    propensity: Probability | None
    decision_id: Text200 | None
    eligible_extractors: Extractors | None
    assigned_by: Literal["share", "override", "fallback", "retry"] | None
    snapshot_id: uuid.UUID | None
    cost_usd: Cost | None
    latency_ms: Latency | None
    batch_key: Text200 | None
    correlation_id: Text200 | None
    success: bool | None
    fields_correct: Count | None
    fields_total: Total | None


class Feedback(TypedDict, total=False):
    """What turned out later about one evaluation; the rules that concern several fields are in `contract`."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    evaluation_id: uuid.UUID | None
    record_id: Text200 | None
    feedback_key: Text200 | None
    created_at: Time | None
    success: bool | None
    fields_correct: Count | None
    fields_total: Total | None
