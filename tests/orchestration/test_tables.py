"""Tables for people: whole on a wide or no terminal, one line a value on a narrow one."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from orchestration.commands import shared

ROW = {
    "alert_id": uuid.UUID(int=7),
    "template": "a[/b] :smile:",
    "value": 0.3799999999,
    "started_at": datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC),
    "event_types": ["drift_high", "template_new"],
    "acked_by": None,
    "for_how_long": timedelta(days=7),
    "reason": "x" * 120,
}
SHOWN = [
    str(ROW["alert_id"]),
    "a[/b] :smile:",
    "0.38",
    "2026-05-01 12:00:00Z",
    "drift_high, template_new",
    "7d",
    "x" * 120,
]


def test_into_a_pipe_every_value_stays_whole_on_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    shared.show([ROW, ROW], as_json=False)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "smile" in line]
    assert len(lines) == 2
    assert "event types" in out
    assert "acked by" not in out, "what no row says has no column"
    assert all(value in lines[0] for value in SHOWN)


def test_on_a_narrow_terminal_each_value_has_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "console", Console(width=80, force_terminal=True, color_system=None))
    shared.show([ROW], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [next(line for line in lines if line.endswith(value)) for value in SHOWN]
    assert not any("│" in line for line in lines)
