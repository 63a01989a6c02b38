"""Which attribute of an OpenTelemetry evaluation event becomes which field of the record: one table, with a version.

The event is `gen_ai.evaluation.result` of OpenTelemetry's semantic conventions for generative AI. Belongs here: the
meaning of attributes, as docs/otlp.md tells it to senders. Does not belong here: the wire (`otlp_protobuf`,
`otlp_json`), whether the record is admissible (`contract`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from assets.evaluations.contract import Refused, derived_record_id

# Raised with every change of what a record is made of: the same event sent again would be a conflict after it.
MAPPING_VERSION = 1

EVENT_NAME = "gen_ai.evaluation.result"
EVENT_NAME_ATTRIBUTE = "event.name"

# `tidemark.FIELD` is FIELD of the contract, whichever it is, and wins over these; of these the first that is there.
OWN_PREFIX = "tidemark."
FEATURES_PREFIX = "tidemark.features."
MAPPING: Mapping[str, tuple[str, ...]] = {
    "template": ("gen_ai.agent.name", "service.name"),
    "extractor_vendor": ("gen_ai.provider.name", "gen_ai.system"),
    "extractor_model": ("gen_ai.response.model", "gen_ai.request.model"),
    "label": ("gen_ai.evaluation.score.label",),
}
# The score's field by the evaluation's name; the others are all `score`, their names kept as a feature.
EVALUATION_NAME = "gen_ai.evaluation.name"
SCORE_VALUE = "gen_ai.evaluation.score.value"
SCORES: Mapping[str, str] = {
    "drift": "drift_score",
    "drift_score": "drift_score",
    "reliability": "reliability_score",
    "reliability_score": "reliability_score",
}
NAME_FEATURE = "evaluation_name"
RESPONSE_ID = "gen_ai.response.id"

_TIMES = ("timeUnixNano", "observedTimeUnixNano")
_LONGEST_RECORD_ID = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """An evaluation event, whatever encoding it came in.

    Attributes:
        attributes: its own over its resource's, as JSON knows values, but for NaN and the infinities.
        time_unix_nano: when it happened, or else when it was observed; 0 if nobody said.
        trace_id: 32 hexadecimal digits, or empty.
        span_id: 16 hexadecimal digits, or empty.
    """

    attributes: Mapping[str, object]
    time_unix_nano: int
    trace_id: str
    span_id: str


def record_of(event: Event) -> bytes:
    """The JSON record that the contract judges; wrong values go into it as they are, for the contract to refuse."""
    attributes = {name: value for name, value in event.attributes.items() if value is not None}
    record = _by_conventions(event, attributes)
    features = _features(record.pop("features", {}), attributes)
    record |= {
        name.removeprefix(OWN_PREFIX): value
        for name, value in attributes.items()
        if name.startswith(OWN_PREFIX) and not name.startswith(FEATURES_PREFIX)
    }
    if features:
        record["features"] = features
    if "record_id" not in record:
        record["record_id"] = _record_id(event, attributes)
    # The standard library's, which writes NaN: orjson would make a null of it, and so hide it from the contract.
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def attributes_of(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Attributes by name.

    Raises:
        Refused: one is there twice, which OpenTelemetry forbids.
    """
    attributes: dict[str, object] = {}
    for name, value in pairs:
        if name in attributes:
            raise Refused(shown(name), "otlp_form", "is said twice: send each attribute once")
        attributes[name] = value
    return attributes


def sources_of(field: str) -> tuple[str, ...]:
    """Where a field of the contract is read from, for people; the first that is there wins."""
    return (OWN_PREFIX + field, *MAPPING.get(field, ()), *(_TIMES if field == "created_at" else ()))


def shown(name: str) -> str:
    """An attribute's name as a refusal may have it: it may be long, or hold the NUL that PostgreSQL can't store."""
    return name[:200].replace("\x00", "\\0")


def _by_conventions(event: Event, attributes: Mapping[str, object]) -> dict[str, object]:
    record: dict[str, object] = {}
    for field, names in MAPPING.items():
        found = [attributes[name] for name in names if name in attributes]
        record |= {field: found[0]} if found else {}
    evaluation = attributes.get(EVALUATION_NAME)
    score_field = SCORES.get(evaluation.casefold(), "score") if isinstance(evaluation, str) else "score"
    if SCORE_VALUE in attributes:
        record[score_field] = attributes[SCORE_VALUE]
    # Beside a result alone: by itself the name would pass for a feature, and the event for a measurement.
    if evaluation is not None and score_field == "score" and ("score" in record or "label" in record):
        record["features"] = {NAME_FEATURE: evaluation}
    if event.time_unix_nano:
        record["created_at"] = _rfc3339(event.time_unix_nano)
    if event.trace_id:
        record["correlation_id"] = event.trace_id
    return record


def _features(named: object, attributes: Mapping[str, object]) -> object:
    given = attributes.get(FEATURES_PREFIX.removesuffix("."), {})
    if not isinstance(given, dict):
        return given
    assert isinstance(named, dict)  # noqa: S101 - made above
    flat = {
        name.removeprefix(FEATURES_PREFIX): value
        for name, value in attributes.items()
        if name.startswith(FEATURES_PREFIX)
    }
    return named | given | flat


def _record_id(event: Event, attributes: Mapping[str, object]) -> str:
    response, evaluation = attributes.get(RESPONSE_ID), attributes.get(EVALUATION_NAME)
    if isinstance(response, str) and isinstance(evaluation, str) and response and evaluation:
        named = f"{response}:{evaluation}"
        if len(named) <= _LONGEST_RECORD_ID:
            return named
    # All that tells one event from another, and not the record alone: two spans may end alike in one millisecond.
    content = [event.time_unix_nano, event.trace_id, event.span_id, dict(attributes)]
    return derived_record_id(json.dumps(content, sort_keys=True).encode())


def _rfc3339(time_unix_nano: int) -> str:
    return (_EPOCH + timedelta(microseconds=time_unix_nano // 1000)).isoformat().replace("+00:00", "Z")
