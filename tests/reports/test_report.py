"""What a report promises: everything in one file, the same bytes each time, small, and nobody else's data."""

import base64
import json
import re
import warnings
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_marts import fill_marts, make_marts
from selection_rows import arm, plant_recommendation

from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line
from assets.reports.files import write_report
from assets.reports.tables import read_report
from assets.reports.type_setting import drawable, fitted, lines, width
from assets.reports.words import named
from assets.warehouse.build import run_dbt
from storage.database import Connection, Database
from storage.errors import TidemarkError, UsageError

LIMIT = 300_000
HOSTILE = (
    "<script>alert(1)</script>",
    "</title><img src=http://evil.example/x onerror=alert(1)>",
    "\"'><link rel=stylesheet href=//evil.example>",
    "$\\frac{1}{0}$ & {{ 7 * 7 }} {% raw %}",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.evil مرحبا שלום",
    "請求書 😀 e\N{COMBINING ACUTE ACCENT}\x01\x1f",
    "x" * 200,
)
ELEMENTS = {"html", "head", "meta", "title", "style", "body", "header", "main", "section", "h1", "h2", "p", "bdi"} | {
    *("dl", "div", "dt", "dd", "figure", "figcaption", "img", "table", "caption", "thead", "tbody", "tr", "th", "td")
}

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EVALUATION = {
    "template": "invoice",
    "extractor_vendor": "v",
    "extractor_model": "m",
    "drift_score": 0.25,
    "decision": "review",
    "created_at": "2026-05-31T08:00:00Z",
}
NOT_AS_BUILT = """
select table_name, column_name, data_type from information_schema.columns where table_schema = 'marts'
except
select table_name, column_name, data_type from information_schema.columns where table_schema = 'built'
"""


class Page(HTMLParser):
    """Elements, what they would load, and the text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.loads: list[str] = []
        self.pictures: list[str] = []
        self.alternatives: list[str] = []
        self.texts: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        values = {name: value or "" for name, value in attrs}
        assert not [name for name in values if name.startswith("on") or name == "style"]
        self.loads += [values[name] for name in ("src", "href", "srcset", "data", "action") if name in values]
        if tag == "img":
            self.alternatives.append(values["alt"])
            self.pictures.append(base64.b64decode(values["src"].partition("base64,")[2]).decode())

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def _page(connection: Connection, tenant: str, folder: Path) -> Page:
    path = folder / f"{tenant}.html"
    assert write_report(read_report(connection, tenant), path).bytes == path.stat().st_size
    return Page(path)


def _pages(path: Path) -> int:
    content = path.read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    return len(re.findall(rb"/Type /Page\b", content))


@pytest.fixture
def marts(connection: Connection) -> Connection:
    make_marts(connection)
    return connection


def test_whatever_names_a_tenant_chooses_the_page_loads_nothing_and_shows_them_as_text(
    marts: Connection, tmp_path: Path
) -> None:
    fill_marts(marts, "acme", HOSTILE, name="<b>Söhne & 株式会社</b>", vendor="<i>$v$</i>", model="</td><td>")
    page = _page(marts, "acme", tmp_path)
    assert page.elements <= ELEMENTS
    assert page.loads
    assert all(load.startswith("data:image/svg+xml;base64,") for load in page.loads)
    assert not re.search(r"url\(|@import|https?:", (tmp_path / "acme.html").read_text().partition("<body>")[0])
    for picture in page.pictures:
        assert picture.startswith("<svg")
        assert not re.search(r"<(script|image|foreignObject|a)\b|@import|url\((?!#)", picture)
        assert set(re.findall(r'href="(.)', picture)) <= {"#"}
    assert len(page.alternatives) == len([text for text in page.alternatives if len(text) > len("some words")])
    assert "<b>Söhne & 株式会社</b>" in page.texts
    for name in HOSTILE:
        assert named(name) in page.texts


def test_no_name_is_read_as_mathematics_and_no_glyph_is_missed_in_a_pdf(marts: Connection, tmp_path: Path) -> None:
    fill_marts(marts, "acme", HOSTILE, name="$\\frac{1}{0}$ 株式会社", vendor="$", model="$\\")
    path = tmp_path / "acme.pdf"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(read_report(marts, "acme"), path)
    assert _pages(path) >= 2
    assert b"CreationDate" not in path.read_bytes()


def test_a_tenant_of_2000_templates_gets_the_worst_of_them_in_300_kb(marts: Connection, tmp_path: Path) -> None:
    fill_marts(marts, "acme", [f'{number} {"&" * 190}"' for number in range(2000)], vendor='"' * 100, model="<" * 98)
    marts.execute("update marts.drift_forecasts set is_anomaly = actual is not null")
    page = _page(marts, "acme", tmp_path)
    pdf = write_report(read_report(marts, "acme"), tmp_path / "acme.pdf")
    assert (tmp_path / "acme.html").stat().st_size <= LIMIT
    assert pdf.bytes <= LIMIT
    assert _pages(pdf.path) <= 5
    assert "1,988 more templates active in the last 30 days" in page.text
    assert "1,996 more templates with feedback." in page.text
    assert "3,985 more alerts firing or lately resolved." in page.text
    assert "1,990 more evaluations waiting." in page.text


def test_the_template_with_most_days_above_its_band_comes_first_and_firing_alerts_before_resolved_ones(
    marts: Connection, tmp_path: Path
) -> None:
    fill_marts(marts, "acme", ["drifting", "steady", "calm"])
    report = read_report(marts, "acme")
    worst = report.standings[0]
    assert (worst.template, worst.breach_count) == ("drifting", 5)
    assert [alert.status for alert in report.alerts] == ["firing"] * 3 + ["resolved"] * 3
    page = _page(marts, "acme", tmp_path)
    assert "2026-05-31" in page.text
    assert any("5 days above the band of the forecast, 7 days forecast ahead" in alt for alt in page.alternatives)


def test_another_tenant_s_numbers_never_appear_whoever_forgets_to_ask_for_the_own_ones(
    marts: Connection, tmp_path: Path
) -> None:
    fill_marts(marts, "acme", ["invoice"])
    fill_marts(marts, "globex", ["secret-template"], name="Globex", vendor="secret-vendor", model="secret-model")
    page = _page(marts, "acme", tmp_path)
    assert not [text for text in page.texts if "secret" in text or "lobex" in text]
    # Row-level security decides too, not the where clauses alone.
    marts.execute("alter policy named_tenant on marts.drift_trends using (tenant_id = 'globex')")
    assert read_report(marts, "acme").standings == []


def test_what_is_empty_says_so_in_words(marts: Connection, tmp_path: Path) -> None:
    fill_marts(marts, "acme")
    fill_marts(marts, "globex", ["invoice"])
    text = _page(marts, "acme", tmp_path).text
    for sentence in (
        "no evaluations yet",
        "No evaluations in the last 30 days.",
        "No template was active in the last 30 days.",
        "No feedback yet",
        "No alert is firing",
        "Nothing arrived in the last 30 days.",
        "No evaluation waits for a review.",
    ):
        assert sentence in text
    assert _pages(write_report(read_report(marts, "acme"), tmp_path / "acme.pdf").path) == 1


def test_a_template_without_a_forecast_or_a_score_and_a_day_of_refused_records_alone_are_still_reported(
    marts: Connection, tmp_path: Path
) -> None:
    fill_marts(marts, "acme", ["scored", "silent"])
    marts.execute("delete from marts.drift_forecasts")
    marts.execute("update marts.drift_history set drift_score = null where template = 'silent'")
    marts.execute(
        "update marts.drift_trends set drift_score = null, drift_avg_7d = null, drift_change_7d = null,"
        " drift_p95_30d = null, reliability_avg_7d = null where template = 'silent'"
    )
    marts.execute(
        "update marts.data_quality set evaluation_count = 0, drift_coverage = null, reliability_coverage = null,"
        " feedback_coverage = null, rejected_count = 7 where date = '2026-05-31'"
    )
    page = _page(marts, "acme", tmp_path)
    assert "There are no forecasts of these templates yet." in page.text
    assert "silent" in page.texts


def test_reading_names_the_remedy_for_what_is_missing(connection: Connection) -> None:
    with pytest.raises(UsageError, match="tidemark tenant create nobody"):
        read_report(connection, "nobody")
    make_marts(connection)
    fill_marts(connection, "acme", ["invoice"])
    connection.execute("delete from marts.overview")
    with pytest.raises(TidemarkError, match="tidemark refresh --force"):
        read_report(connection, "acme")
    connection.execute("revoke select on marts.overview from api_reader")
    with pytest.raises(TidemarkError, match="earlier version"):
        read_report(connection, "acme")
    connection.execute("drop table marts.overview")
    with pytest.raises(TidemarkError, match=r"yet to be built.*tidemark refresh"):
        read_report(connection, "acme")


def test_a_report_that_can_t_be_written_leaves_what_was_there(marts: Connection, tmp_path: Path) -> None:
    fill_marts(marts, "acme", ["invoice"])
    report = read_report(marts, "acme")
    for path in (tmp_path / "a.docx", tmp_path / "nowhere" / "a.html"):
        with pytest.raises(UsageError):
            write_report(report, path)
    taken = tmp_path / "taken.pdf"
    taken.mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        write_report(report, taken)
    long = tmp_path / f"{'x' * 250}.pdf"
    with pytest.raises(TidemarkError, match="can't be written"):
        write_report(report, long)
    assert sorted(tmp_path.iterdir()) == [taken]


def test_the_marts_that_dbt_builds_are_those_that_a_report_reads(
    database: Database, connection: Connection, tenant: str, tmp_path: Path
) -> None:
    lines = [Line(number, json.dumps(EVALUATION | {"record_id": str(number)}).encode()) for number in range(3)]
    land(connection, tenant, "evaluations", lines, door="test", now=NOW)
    plant_recommendation(connection, tenant, "invoice", [arm("v", "m", 9, 1)])
    run_dbt(["run"], database)

    report = read_report(connection, tenant)
    assert (report.headline.total_evaluations, report.headline.as_of) == (3, date(2026, 5, 31))
    assert [(volume.decision, volume.evaluation_count) for volume in report.volumes] == [("review", 3)]
    assert [(standing.template, standing.drift_score) for standing in report.standings] == [("invoice", 0.25)]
    assert (report.review_count, len(report.quality), len(report.choices)) == (3, 2, 1)
    assert "3 evaluations on 1 of the last 30 days" in _page(connection, tenant, tmp_path).text

    # The tables of the other tests are drafts of dbt's: same names, same types.
    connection.execute("alter schema marts rename to built")
    connection.execute("create schema marts")
    make_marts(connection)
    assert connection.execute(NOT_AS_BUILT).fetchall() == []


@given(text=st.text(max_size=300), inches=st.floats(0.3, 3))
def test_any_text_is_set_no_wider_than_its_room_in_characters_that_the_font_has(text: str, inches: float) -> None:
    cut = fitted(text, 7, inches)
    assert width(cut, 7) <= inches
    assert drawable(cut) == cut
    assert all(width(line, 7) <= inches for line in lines(text, 7, inches))


@given(text=st.text(max_size=300), longest=st.integers(3, 120))
def test_a_name_is_cut_in_its_middle_so_that_start_and_end_stay(text: str, longest: int) -> None:
    shown = named(text, longest)
    assert len(shown) == min(len(text), longest)
    if len(text) > longest and text.isprintable():
        start, end = shown.split("…", 1) if text.count("…") == 0 else (shown[:1], shown[-1:])
        assert text.startswith(start)
        assert text.endswith(end)
