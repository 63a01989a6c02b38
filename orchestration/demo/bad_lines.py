"""Lines that are no records, as broken exporters make them, each with the code it must be refused with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class BadLine:
    """What is wrong with the line, in words; the code of the refusal; the bytes."""

    fault: str
    code: str
    payload: bytes


def bad_lines(good: Mapping[str, object], day: date) -> list[BadLine]:
    """Spoil a good record in 23 ways.

    Args:
        good: a record that the contract admits, without its record_id, which each line gets of its own.
        day: the day of the burst; part of the record_ids.
    """
    lines = []
    for number, (fault, code, edits) in enumerate(_edits(day), start=1):
        record = {"record_id": f"burst/{day.isoformat()}/{number:02d}", **good, **edits}
        content = {name: value for name, value in record.items() if value is not _ABSENT}
        lines.append(BadLine(fault, code, json.dumps(content, separators=(",", ":")).encode()))
    whole = lines[0].payload
    lines.append(BadLine("cut off in the middle", "json_invalid", whole[: len(whole) // 2]))
    lines.append(BadLine("Python's quotes", "json_invalid", whole.replace(b'"', b"'")))
    lines.append(BadLine("a list of values", "dict_type", b'["claim-form","%s",0.12]' % day.isoformat().encode()))
    return lines


def _edits(day: date) -> tuple[tuple[str, str, dict[str, object]], ...]:
    return (
        ("drift_score above 1", "less_than_equal", {"drift_score": 1.4}),
        ("drift_score below 0", "greater_than_equal", {"drift_score": -0.2}),
        ("drift_score as a string", "float_type", {"drift_score": "0.12"}),
        ("drift_score as a boolean", "float_type", {"drift_score": True}),
        ("drift_score that is no number", "finite_number", {"drift_score": float("nan")}),
        ("reliability_score in percent", "less_than_equal", {"reliability_score": 93.0}),
        ("no template", "missing", {"template": _ABSENT}),
        ("an empty template", "string_too_short", {"template": ""}),
        ("no extractor_model", "missing", {"extractor_model": _ABSENT}),
        ("no created_at", "missing", {"created_at": _ABSENT}),
        ("a time without offset", "datetime_format", {"created_at": f"{day.isoformat()}T09:00:00"}),
        ("a day instead of a time", "datetime_format", {"created_at": f"{day:%d/%m/%Y}"}),
        ("seconds since 1970", "datetime_type", {"created_at": 1767258000}),
        ("a time before 2000", "datetime_too_early", {"created_at": "1970-01-01T00:00:00Z"}),
        ("a decision of its own", "literal_error", {"decision": "approved"}),
        ("an unknown field", "unknown_field", {"driftscore": 0.12}),
        ("features that are not flat", "float_type", {"features": {"pages": {"count": 3}}}),
        ("more correct fields than fields", "fields_exceed_total", {"fields_correct": 14, "fields_total": 12}),
        ("fields_total missing", "fields_incomplete", {"fields_correct": 11}),
        (
            "nothing measured",
            "nothing_measured",
            {"drift_score": _ABSENT, "reliability_score": _ABSENT, "features": _ABSENT},
        ),
    )
