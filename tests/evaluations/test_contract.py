"""The record contract: what is admitted, and that each refusal names the field and the reason."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.evaluations.contract import EVALUATION, FEEDBACK, Refused, canonical, parse, payload_hash
from assets.evaluations.record_fields import Evaluation

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
GOOD = {
    "record_id": "r-1",
    "template": "invoice",
    "extractor_vendor": "acme-ai",
    "extractor_model": "reader-2",
    "drift_score": 0.12,
    "created_at": "2026-05-31T10:00:00Z",
}


def _line(**changes: object) -> bytes:
    return json.dumps({name: value for name, value in (GOOD | changes).items() if value is not ...}).encode()


def _refusal(payload: bytes) -> Refused:
    with pytest.raises(Refused) as refused:
        parse(EVALUATION, payload, NOW)
    return refused.value


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"template": ...}, "template", "missing"),
        ({"template": ""}, "template", "string_too_short"),
        ({"template": "x" * 201}, "template", "string_too_long"),
        ({"template": "a\x00b"}, "template", "nul_character"),
        ({"extractor_model": 7}, "extractor_model", "string_type"),
        ({"drift_score": "0.1"}, "drift_score", "float_type"),
        ({"drift_score": True}, "drift_score", "float_type"),
        ({"drift_score": 1.0000001}, "drift_score", "less_than_equal"),
        ({"drift_score": float("nan")}, "drift_score", "finite_number"),
        ({"reliability_score": -0.1}, "reliability_score", "greater_than_equal"),
        ({"decision": "maybe"}, "decision", "literal_error"),
        ({"created_at": "2026-05-31T10:00:00"}, "created_at", "datetime_format"),
        ({"created_at": "2026-02-30T10:00:00Z"}, "created_at", "datetime_format"),
        ({"created_at": "1780000000"}, "created_at", "datetime_format"),
        ({"created_at": 1780000000}, "created_at", "datetime_type"),
        ({"created_at": "1999-12-31T23:59:59Z"}, "created_at", "datetime_too_early"),
        ({"created_at": "0001-01-01T00:00:00+05:00"}, "created_at", "datetime_too_early"),
        ({"created_at": "9999-12-31T23:59:59-05:00"}, "created_at", "datetime_too_early"),
        ({"created_at": "2026-06-01T12:05:01Z"}, "created_at", "datetime_in_future"),
        ({"features": {"x": [1]}}, "features.x", None),
        ({"features": {"x": float("inf")}}, "features", "finite_number"),
        ({"features": {"x": "a\x00"}}, "features", "nul_character"),
        ({"features": {"x": 2**63}}, "features", "number_too_large"),
        ({"features": {"x": "y" * 65536}}, "features", "features_too_large"),
        ({"embedding": [0.1] * 383}, "embedding", "too_short"),
        ({"propensity": 0}, "propensity", "greater_than"),
        ({"decision_id": " "}, "decision_id", "string_blank"),
        ({"assigned_by": "chance"}, "assigned_by", "literal_error"),
        ({"snapshot_id": "7"}, "snapshot_id", "uuid_parsing"),
        ({"cost_usd": -0.01}, "cost_usd", "greater_than_equal"),
        ({"cost_usd": 1_000_001}, "cost_usd", "less_than_equal"),
        ({"latency_ms": float("nan")}, "latency_ms", "finite_number"),
        ({"latency_ms": 1e10}, "latency_ms", "less_than_equal"),
        ({"eligible_extractors": []}, "eligible_extractors", "too_short"),
        ({"eligible_extractors": [f"v/{n}" for n in range(101)]}, "eligible_extractors", "too_long"),
        ({"eligible_extractors": "acme-ai/reader-2"}, "eligible_extractors", "list_type"),
        ({"eligible_extractors": ["acme-ai/reader-2", 7]}, "eligible_extractors", "string_type"),
        ({"eligible_extractors": ["acme-ai/reader-2", "reader-3"]}, "eligible_extractors", "extractor_form"),
        ({"eligible_extractors": ["acme-ai/reader-2", "/reader"]}, "eligible_extractors", "extractor_form"),
        ({"eligible_extractors": ["acme-ai/reader-2", "v/" + "m" * 101]}, "eligible_extractors", "extractor_form"),
        ({"eligible_extractors": ["acme-ai/reader-2", "v/a\x00"]}, "eligible_extractors", "nul_character"),
        ({"eligible_extractors": ["acme-ai/reader-2"] * 2}, "eligible_extractors", "extractor_twice"),
        ({"eligible_extractors": ["acme-ai/reader-3"]}, "eligible_extractors", "extractor_not_eligible"),
        (
            {"extractor_vendor": "a/b", "eligible_extractors": ["a/b/reader-2"]},
            "extractor_vendor",
            "vendor_with_slash",
        ),
        ({"fields_correct": 3}, None, "fields_incomplete"),
        ({"fields_correct": 3, "fields_total": 2}, None, "fields_exceed_total"),
        ({"fields_correct": 3, "fields_total": 2**31}, "fields_total", "less_than_equal"),
        ({"drift_score": ...}, None, "nothing_measured"),
        ({"colour": "red"}, "colour", "unknown_field"),
    ],
)
def test_a_record_against_the_contract_is_refused_by_field_and_code(
    changes: dict[str, object], field: str | None, code: str | None
) -> None:
    refused = _refusal(_line(**changes))
    assert refused.field == field
    assert code is None or refused.code == code
    assert refused.reason


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"nope", b"[]", b'"x"', b"\xff\xfe", b'{"a":' * 5000, b'{"template": "\\ud800"}', _line() + b"x"],
)
def test_what_is_no_json_object_is_refused_and_does_not_break_the_parser(payload: bytes) -> None:
    assert _refusal(payload).reason


def test_the_clock_may_differ_by_five_minutes_and_no_more() -> None:
    limit = NOW + timedelta(minutes=5)
    assert parse(EVALUATION, _line(created_at=limit.isoformat()), NOW)["created_at"] == limit
    assert _refusal(_line(created_at=(limit + timedelta(seconds=1)).isoformat())).code == "datetime_in_future"


@given(st.permutations(list(GOOD)), st.sampled_from(["Z", "+00:00"]), st.booleans())
def test_the_same_content_has_the_same_hash_however_it_is_written(order: list[str], zone: str, spaced: bool) -> None:
    written = {name: GOOD[name] for name in order} | {"created_at": f"2026-05-31T10:00:00{zone}", "label": None}
    payload = json.dumps(written, indent=1 if spaced else None).encode()
    same, first = (payload_hash(canonical(parse(EVALUATION, line, NOW))) for line in (payload, _line()))
    assert same == first
    assert payload_hash(canonical(parse(EVALUATION, _line(drift_score=0.13), NOW))) != first


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.floats(0, 1),
    st.text(max_size=5),
    st.sampled_from([" ", "\u2003", "a\x00", "x" * 201, "accept", "0190c3a0-0000-7000-8000-000000000000"]),
    st.sampled_from(["2026-05-31T10:00:00.1234567+02:00", "1999-12-31 23:59:59z", "0001-01-01T00:00:00+05:00"]),
    st.sampled_from(["9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59.9999999Z"]),
    st.dictionaries(st.sampled_from(["b", "a", "", "template"]), st.floats() | st.text(max_size=3) | st.none()),
    st.lists(st.floats(-1, 1), min_size=383, max_size=384).map(lambda values: (values * 2)[:384]),
)
_CHOICES = st.lists(
    st.sampled_from(["acme-ai/reader-2", "v/m", "v/m/2", "v", "/", "v/ ", "v/a\x00", "v/é"]) | st.text(max_size=3),
    max_size=4,
)
_FIELDS = st.sampled_from([*Evaluation.__annotations__, "colour"])
_SAID = st.lists(st.tuples(_FIELDS, _VALUES) | st.tuples(st.just("eligible_extractors"), _CHOICES), max_size=4)


@given(_SAID, st.booleans(), st.booleans(), st.binary(max_size=2), st.integers(0, 400))
def test_what_the_quick_reader_admits_the_thorough_one_reads_alike(
    said: list[tuple[str, object]], spaced: bool, escaped: bool, noise: bytes, place: int
) -> None:
    separators = (" , ", " : ") if spaced else (",", ":")
    pairs = [
        separators[1].join(json.dumps(part, ensure_ascii=escaped) for part in pair) for pair in [*GOOD.items(), *said]
    ]
    whole = ("{" + separators[0].join(pairs) + "}").encode()
    payload = whole[:place] + noise + whole[place + len(noise) :]
    for contract in (EVALUATION, FEEDBACK):
        quick = contract.read_quickly(payload)
        if quick is not None:
            assert quick == contract.read_thoroughly(payload)


def test_the_record_of_one_without_the_newer_fields_is_the_one_it_was() -> None:
    record = parse(EVALUATION, _line(record_id=..., features={"b": 1, "a": None}, propensity=0.5), NOW)
    assert canonical(record) == (
        b'{"created_at":"2026-05-31T10:00:00Z","drift_score":0.12,"extractor_model":"reader-2",'
        b'"extractor_vendor":"acme-ai","features":{"a":null,"b":1},"propensity":0.5,"template":"invoice"}'
    )


def test_the_same_choice_in_another_order_is_the_same_record() -> None:
    orders = (["acme-ai/reader-2", "b/c", "a/b/c"], ["b/c", "a/b/c", "acme-ai/reader-2"])
    payloads = [_line(eligible_extractors=order) for order in orders]
    read = [reader(payload) for reader in (EVALUATION.read_quickly, EVALUATION.read_thoroughly) for payload in payloads]
    assert all(found == read[0] for found in read[1:])
    assert read[0] is not None
    assert read[0][0]["eligible_extractors"] == ["a/b/c", "acme-ai/reader-2", "b/c"]


@pytest.mark.parametrize("changes", [{}, {"label": None, "features": {"b": 1, "a": None}}, {"record_id": "ä😀"}])
def test_the_quick_reader_takes_what_is_plain(changes: dict[str, object]) -> None:
    payload = json.dumps(GOOD | changes, ensure_ascii=False).encode()
    assert EVALUATION.read_quickly(payload) == EVALUATION.read_thoroughly(payload)


@pytest.mark.parametrize(
    ("feedback", "code"),
    [
        ({"record_id": "r"}, "nothing_measured"),
        ({"success": True}, "evaluation_reference"),
        (
            {"success": True, "record_id": "r", "evaluation_id": "0190c3a0-0000-7000-8000-000000000000"},
            "evaluation_reference",
        ),
        ({"success": "yes", "record_id": "r"}, "bool_type"),
        ({"fields_total": 3, "record_id": "r"}, "fields_incomplete"),
    ],
)
def test_feedback_names_one_evaluation_and_says_something(feedback: dict[str, object], code: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(FEEDBACK, json.dumps(feedback).encode(), NOW)
    assert refused.value.code == code
