"""Messages for Slack and Teams: whole, within the formats' limits, and deaf to what names try to say."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.alerts.drafts import group_draft
from sensors.outbox import EVENT_TYPES, AlertPart, EventDraft, MetricPart, SubjectPart, body
from sensors.webhooks.rendering import FORMATS, SLACK_HEADER, SLACK_TEXT, TEAMS_BYTES, Format, render

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PAGE = "https://tidemark.example.com/alerts?a=1&b=<2>|3"
# What the contract lets a name be, with the characters that mean something to either format among them.
NAMES = st.text(max_size=200) | st.text("<>&*_~`\\|@!#[]()\"'\u202e😀\n", max_size=200)


def draft(
    name: str = "invoice", event_type: str = "drift_high", status: str = "firing", severity: str = "critical"
) -> EventDraft:
    return EventDraft(
        "acme",
        event_type,
        ("x",),
        NOW,
        alert=AlertPart(UUID(int=1), status, severity, NOW),
        subject=SubjectPart(name, name[:100], name[:100]),
        metric=MetricPart("drift_score", 0.912345678, 0.3, NOW, NOW, 7),
        evaluation_id=UUID(int=2),
        correlation_id=name,
    )


def event(name: str = "invoice", event_type: str = "drift_high") -> bytes:
    return body(draft(name, event_type), UUID(int=3), 41)


def group(*members: EventDraft, **labels: str) -> bytes:
    return body(group_draft({"event_type": "drift_high", **labels}, members), UUID(int=3), 41)


def texts(found: Any) -> list[str]:
    """Every string under a key `text`, wherever it is."""
    if isinstance(found, dict):
        own = [found["text"]] if isinstance(found.get("text"), str) else []
        return own + [text for part in found.values() for text in texts(part)]
    return [text for part in found for text in texts(part)] if isinstance(found, list) else []


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_type_of_event_has_a_message_that_is_the_same_each_time(form: Format, event_type: str) -> None:
    told = event(event_type=event_type)
    assert render(form, told, PAGE) == render(form, told, PAGE)
    assert (render(form, told) == told) is (form == "tidemark")
    bare = body(EventDraft("acme", event_type, (), NOW), uuid4(), 1)
    assert json.loads(render(form, bare))


def test_slack_gets_block_kit_with_what_the_alert_is_about_and_a_link() -> None:
    message = json.loads(render("slack", event(), PAGE))
    assert message["text"] == "Drift is high (firing): invoice"
    header, section, context, link = message["blocks"]
    assert header == {"type": "header", "text": {"type": "plain_text", "text": message["text"], "emoji": False}}
    assert section["text"]["text"].splitlines()[:6] == [
        "*Tenant*  `acme`",
        "*Template*  `invoice`",
        "*Extractor*  `invoice invoice`",
        "*Metric*  `drift_score`",
        "*Value*  `0.912346`",
        "*Threshold*  `0.3`",
    ]
    assert "drift_high 41" in context["elements"][0]["text"]
    assert link["text"]["text"] == ("<https://tidemark.example.com/alerts?a=1&amp;b=%3C2%3E%7C3|Open Tidemark>")
    assert len(json.loads(render("slack", event()))["blocks"]) == 3


def test_a_message_about_an_endpoint_names_it_and_times_are_told_to_the_second() -> None:
    facts = json.loads(render("slack", event(name="id-of-webhook", event_type="webhook_disabled")))["blocks"][1]
    lines = facts["text"]["text"].splitlines()
    assert "*Webhook*  `id-of-webhook`" in lines
    assert f"*Since*  `{NOW:%F %T} UTC`" in lines


def test_teams_gets_an_adaptive_card_in_the_message_that_its_workflows_take() -> None:
    message = json.loads(render("teams", event(), PAGE))
    assert message["type"] == "message"
    (attachment,) = message["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open Tidemark", "url": PAGE}]
    assert texts(card)[0] == "Drift is high (firing): invoice"
    assert "0.912346" in texts(card)
    assert "actions" not in json.loads(render("teams", event()))["attachments"][0]["content"]


def test_a_group_is_told_by_how_many_alerts_it_has_how_severe_and_the_first_ten_of_them() -> None:
    members = [draft(f"form {number}", severity="info") for number in range(130)]
    members += [draft("form x", status="resolved", severity="warning")]
    told = group(*members, extractor_vendor="form 1")
    many = "131 alerts (130 firing, 1 resolved)"
    message = json.loads(render("slack", told, PAGE))
    assert message["text"] == f"Drift is high: {many}"
    _, facts, named, context, link = message["blocks"]
    assert facts["text"]["text"].splitlines() == [
        "*Tenant*  `acme`",
        "*Vendor*  `form 1`",
        f"*Alerts*  `{many}`",
        "*Highest severity*  `warning`",
    ]
    lines = [f"form {number} form {number} form {number}: 0.912346, firing, info" for number in range(10)]
    assert named["text"]["text"].splitlines() == [f"`{line}`" for line in lines] + ["and 121 more"]
    assert "drift_high 41" in context["elements"][0]["text"]
    assert "Open Tidemark" in link["text"]["text"]
    card = json.loads(render("teams", told, PAGE))["attachments"][0]["content"]
    assert card["actions"][0]["url"] == PAGE
    inlines = [[run["text"] for run in block["inlines"]] for block in card["body"]]
    assert inlines[0] == [f"Drift is high: {many}"]
    assert ["Highest severity  ", "warning"] in inlines
    assert inlines[-12:-1] == [[line] for line in [*lines, "and 121 more"]]
    alone = json.loads(render("slack", group(draft())))
    assert alone["text"] == "Drift is high: 1 alert (1 firing)"
    assert not any("more" in text for text in texts(alone))


@pytest.mark.parametrize("is_group", [False, True])
@given(name=NAMES)
def test_no_name_breaks_a_message_its_limits_or_its_words(is_group: bool, name: str) -> None:
    told = (
        group(*[draft(name)] * 12, template=name, extractor_vendor=name[:100], extractor_model=name[:100])
        if is_group
        else event(name)
    )
    slack = json.loads(render("slack", told))
    assert len(slack["blocks"]) <= 50
    assert len(slack["blocks"][0]["text"]["text"]) <= SLACK_HEADER
    for text in texts(slack):
        assert len(text) <= SLACK_TEXT
        assert "\u202e" not in text
    # All markup is ours: nothing opens a mention or a link, and every code span that begins on a line ends on it.
    *sections, context = slack["blocks"][1:]
    marked = [part["text"] for part in (slack, *(section["text"] for section in sections), context["elements"][0])]
    assert not any("<" in text or ">" in text for text in marked)
    for line in "\n".join(section["text"]["text"] for section in sections).splitlines():
        assert line.count("`") == 2 or (is_group and line == "and 2 more")
    if is_group:
        assert len(sections[1]["text"]["text"].splitlines()) == 11
    teams = render("teams", told, "https://example.com/" + "x" * 1000)
    assert len(teams) <= TEAMS_BYTES
    card = json.loads(teams)["attachments"][0]["content"]
    assert {block["type"] for block in card["body"]} == {"RichTextBlock"}


def test_the_longest_names_in_the_widest_letters_fit() -> None:
    for letter in ("😀", "<", "&", "\\", '"'):
        name = letter * 200
        labels = {"template": name, "extractor_vendor": name[:100], "extractor_model": name[:100]}
        for told in (event(name), group(*[draft(name)] * 101, **labels)):
            assert len(render("teams", told, "https://example.com/" + "x" * 1000)) <= TEAMS_BYTES
            slack = json.loads(render("slack", told))
            assert all(len(text) <= SLACK_TEXT for text in texts(slack))
