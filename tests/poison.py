"""Poison lines: each alone among good ones must end as one dead letter, through whichever door it comes.

Belongs here: the lines, what each door should say of them, and good lines to put around them. Does not belong here: any
door.
"""

import gzip
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Poison:
    """One line that no door may land.

    Attributes:
        name: what is wrong with it.
        payload: its bytes, without a line's end (none of them has a newline inside).
        field: the field that the refusal names; None where it is the whole record.
        code: the refusal's code.
    """

    name: str
    payload: bytes
    field: str | None
    code: str


def good(number: int | str, **changes: object) -> dict[str, Any]:
    """A record that every door lands; other numbers make other records."""
    return {
        "record_id": f"good-{number}",
        "template": "invoice",
        "extractor_vendor": "acme-ai",
        "extractor_model": "reader-2",
        "drift_score": 0.1,
        "created_at": "2026-05-01T10:00:00Z",
    } | changes


def line(record: object) -> bytes:
    """A record as a line of NDJSON, without its newline."""
    return json.dumps(record, separators=(",", ":")).encode()


def _with(**changes: object) -> bytes:
    return line(good("poison", **changes))


def _written(field: str, value: bytes) -> bytes:
    """A line in which a field's value is written as given, which may be no JSON."""
    return _with(**{field: "@"}).replace(b'"@"', value)


_GOOD = _with()

POISON = (
    Poison("a NUL in a string", _with(template="a\x00b"), "template", "nul_character"),
    Poison("a NUL written raw", _written("template", b'"a\x00b"'), None, "json_invalid"),
    Poison("a NUL in a feature", _with(features={"x": "a\x00"}), "features", "nul_character"),
    Poison("a NUL in a feature's name", _with(features={"a\x00": 1}), "features", "nul_character"),
    Poison("a NUL in an unknown field's name", _with(**{"a\x00": 1}), "a\\0", "unknown_field"),
    Poison("NaN", _written("drift_score", b"NaN"), "drift_score", "finite_number"),
    Poison("Infinity", _written("drift_score", b"Infinity"), "drift_score", "finite_number"),
    Poison("-Infinity", _written("score", b"-Infinity"), "score", "finite_number"),
    Poison("1e400", _written("drift_score", b"1e400"), "drift_score", "finite_number"),
    Poison("1e400 in a feature", _written("features", b'{"x":1e400}'), "features", "finite_number"),
    Poison("NaN in a feature", _written("features", b'{"x":NaN}'), "features", "finite_number"),
    Poison("a whole number of 400 digits", _written("score", b"1" + b"0" * 400), "score", "finite_number"),
    Poison("a whole number of 5000 digits", _written("score", b"1" + b"0" * 5000), None, "json_invalid"),
    Poison("a count beyond 32 bits", _with(fields_correct=1, fields_total=2**31), "fields_total", "less_than_equal"),
    Poison("a feature beyond 64 bits", _with(features={"x": 2**63}), "features", "number_too_large"),
    Poison("a lone surrogate, escaped", _written("template", b'"\\ud800"'), None, "json_invalid"),
    Poison("a lone surrogate, raw", _written("template", b'"\xed\xa0\x80"'), None, "json_invalid"),
    Poison("a lone surrogate in a feature's name", _written("features", b'{"\\udfff":1}'), None, "json_invalid"),
    Poison("bytes that are not UTF-8", _written("template", b'"\xff\xfe"'), None, "json_invalid"),
    Poison("a record in Latin-1", _with(template="?").replace(b"?", b"\xfc"), None, "json_invalid"),
    Poison("a record in UTF-16", _GOOD.decode().encode("utf-16-le"), None, "json_invalid"),
    Poison("a gzipped record, cut short", gzip.compress(_GOOD, 0, mtime=0)[:-8], None, "json_invalid"),
    Poison("100,000 open brackets", _written("features", b"[" * 100_000), None, "json_invalid"),
    Poison("100,000 open objects", _written("features", b'{"a":' * 100_000), None, "json_invalid"),
    Poison("a string of 2 MB", _with(template="x" * 2_000_000), "template", "string_too_long"),
    Poison("a feature of 2 MB", _with(features={"x": "y" * 2_000_000}), "features", "features_too_large"),
    Poison("a field's name of 2 MB", _with(**{"k" * 2_000_000: 1}), "k" * 200, "unknown_field"),
    Poison("features just above 64 KiB", _with(features={"x": "y" * 65_529}), "features", "features_too_large"),
    Poison("features within features", _with(features={"x": {"y": 1}}), "features.x", "float_type"),
    Poison("features that are a list", _with(features=[1]), "features", "dict_type"),
    Poison("the year 0001", _with(created_at="0001-01-01T00:00:00Z"), "created_at", "datetime_too_early"),
    Poison("the year 9999", _with(created_at="9999-12-31T23:59:59Z"), "created_at", "datetime_in_future"),
    Poison("a time in the future", _with(created_at="9000-01-01T00:00:00Z"), "created_at", "datetime_in_future"),
    Poison("the hour 24", _with(created_at="2026-05-01T24:00:00Z"), "created_at", "datetime_format"),
    Poison("a leap second", _with(created_at="2026-12-31T23:59:60Z"), "created_at", "datetime_format"),
    Poison("the 30th of February", _with(created_at="2026-02-30T00:00:00Z"), "created_at", "datetime_format"),
    Poison("a time without offset", _with(created_at="2026-05-01T10:00:00"), "created_at", "datetime_format"),
    Poison(
        "a time in other digits", _with(created_at="\uff12\uff1026-05-01T10:00:00Z"), "created_at", "datetime_format"
    ),
    Poison("a time that is a number", _with(created_at=1_780_000_000), "created_at", "datetime_type"),
    Poison("a key twice", _GOOD[:-1] + b',"drift_score":0.2}', "drift_score", "duplicate_key"),
    Poison("a key twice, once null", _GOOD[:-1] + b',"label":null,"label":"a"}', "label", "duplicate_key"),
    Poison("a key twice, once escaped", _GOOD[:-1] + b',"\\u0074emplate":"b"}', "template", "duplicate_key"),
    Poison("a feature twice", _written("features", b'{"x":1,"x":1}'), "features.x", "duplicate_key"),
    Poison("a boolean for a number", _with(drift_score=True), "drift_score", "float_type"),
    Poison("a string for a number", _with(drift_score="0.1"), "drift_score", "float_type"),
    Poison("a number for a boolean", _with(success=1), "success", "bool_type"),
    Poison("a number for a string", _with(template=7), "template", "string_type"),
    Poison("a byte order mark within the file", b"\xef\xbb\xbf" + _GOOD, None, "json_invalid"),
    Poison("an empty object", b"{}", "template", "missing"),
    Poison("an array", b"[" + _GOOD + b"]", None, "dict_type"),
    Poison("a bare number", b"7", None, "dict_type"),
    Poison("no JSON", b"nonsense", None, "json_invalid"),
    Poison("a line cut short", _GOOD[:-20], None, "json_invalid"),
    Poison("two records on a line", _GOOD + _GOOD, None, "json_invalid"),
    Poison("an embedding of 383", _with(embedding=[0.1] * 383), "embedding", "too_short"),
    Poison("an embedding of 385", _with(embedding=[0.1] * 385), "embedding", "too_long"),
    Poison("an embedding with NaN", _written("embedding", b"[" + b"0," * 383 + b"NaN]"), "embedding", "finite_number"),
    Poison("an embedding beyond half precision", _with(embedding=[70_000] + [0] * 383), "embedding", "less_than_equal"),
    Poison("a template of 201 characters", _with(template="x" * 201), "template", "string_too_long"),
    Poison("an empty template", _with(template=""), "template", "string_too_short"),
    Poison("a blank template", _with(template=" \u2003 "), "template", "string_blank"),
    Poison("a record_id of 201 characters", _with(record_id="x" * 201), "record_id", "string_too_long"),
    Poison("an evaluation_id that is no UUID", _with(evaluation_id="7"), "evaluation_id", "uuid_parsing"),
    Poison("an unknown field", _with(colour="red"), "colour", "unknown_field"),
    Poison("more fields correct than there are", _with(fields_correct=3, fields_total=2), None, "fields_exceed_total"),
    Poison("a propensity of 0", _with(propensity=0), "propensity", "greater_than"),
    Poison(
        "a choice without itself", _with(eligible_extractors=["a/b"]), "eligible_extractors", "extractor_not_eligible"
    ),
    Poison("a NUL in a choice", _with(eligible_extractors=["a/b\x00"]), "eligible_extractors", "nul_character"),
    Poison("a cost below nothing", _with(cost_usd=-1), "cost_usd", "greater_than_equal"),
    Poison("a latency of 1e400", _written("latency_ms", b"1e400"), "latency_ms", "finite_number"),
    Poison("a decision of its own", _with(decision="maybe"), "decision", "literal_error"),
)

ODD_BUT_GOOD = {
    "a carriage return at the end": line(good("cr")) + b"\r",
    "blanks around": b" \t" + line(good("blanks")) + b"  ",
    "minus zero": line(good("minus")).replace(b"0.1", b"-0.0"),
    "a number too small to tell from zero": line(good("small")).replace(b"0.1", b"1e-400"),
    "escaped field names": line(good("escaped")).replace(b'"template"', b'"\\u0074emplate"'),
    "colons and quotes in values": line(good("colons", template='a:"b":\\', features={"x:y": '{"z":1}'})),
    "letters beyond the basic plane": line(good("letters", template="\U0001f4c4 \u00fc")),
    "features just within 64 KiB": line(good("64k", features={"x": "y" * 65_528})),
    "a null for an optional field": line(good("null", label=None, features=None)),
    "64 bits": line(good("64", features={"most": 2**63 - 1, "least": -(2**63) + 1})),
}
