"""An event as people read it: Slack's Block Kit and Teams' Adaptive Card, made from the stored body alone. Pure.

Belongs here: what a message looks like, its escapes and its limits. Does not belong here: when it is made and where it
is kept (`bodies`).

Names and identifiers come from whoever sends records. Slack gets them inside code spans, where nothing but its three
characters has a meaning, Teams as text runs, which know no markup: no name can mention a channel or fake a link.

References:
    https://docs.slack.dev/reference/block-kit/blocks, .../messaging/formatting-message-text
    https://adaptivecards.io/explorer; a message of Teams may have 28 KB
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

Format = Literal["tidemark", "slack", "teams"]
FORMATS: tuple[Format, ...] = get_args(Format)

SLACK_HEADER = 150
SLACK_TEXT = 3000
TEAMS_BYTES = 28 * 1024
# Of a group so many alerts are named; that there are more is said.
MOST_NAMED = 10

# A card of values that are all this long, in letters of the most bytes, stays within Teams' limit.
_LONGEST_VALUE = 300
# A group has eleven lines at most: so long, escaped, all of them fit one of Slack's texts.
_SLACK_LINE = 260
# So that the name gives way and not what follows it.
_LONGEST_NAME = 200
_LINK_TEXT = "Open Tidemark"
_CUT = "…"

_TITLES = {
    "drift_high": "Drift is high",
    "reliability_low": "Reliability is low",
    "decision_review": "A decision needs a review",
    "template_new": "A new template",
    "drift_anomaly": "Drift is above its forecast",
    "drift_predicted": "Drift is forecast to become high",
    "feature_drift": "A feature has drifted",
    "extractor_change": "An extractor has changed",
    "evaluations_missing": "Evaluations are missing",
    "records_rejected": "Records are rejected",
    "webhook_disabled": "A webhook is not served",
    "webhook_test": "A test of this webhook",
}
# Of a template's other measure, which the metric's name tells.
_TITLES_OF_RELIABILITY = {
    "drift_anomaly": "Reliability is below its forecast",
    "drift_predicted": "Reliability is forecast to become low",
}
_ENDINGS = {
    "within_bounds": "Back within bounds",
    "new_level": "Forecasts have taken its level for the normal one",
    "outdated": "The week that was forecast is over",
    "by_hand": "Ended by hand",
    "rebaselined": "Its level was accepted",
}
_LABELS = {
    "template": "Template",
    "extractor_vendor": "Vendor",
    "extractor_model": "Model",
    "severity": "Severity",
}


def render(form: Format, body: bytes, page_url: str | None = None) -> bytes:
    """The bytes that an endpoint of this format is sent for an event: the same for the same arguments.

    Args:
        form: `tidemark` is the body itself.
        body: an event's stored body (`sensors.outbox.body`).
        page_url: http(s) address that the message links to, if there is one.
    """
    if form == "tidemark":
        return body
    event = json.loads(body)
    message = _slack(event, page_url) if form == "slack" else _teams(event, page_url)
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _slack(event: Mapping[str, Any], page_url: str | None) -> Mapping[str, Any]:
    title = _title(event)
    facts = [f"*{name}*  {_code(value)}" for name, value in _facts(event)]
    blocks: list[Mapping[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _fit(title, SLACK_HEADER, str), "emoji": False}},
        {"type": "section", "text": _mrkdwn(_lines(facts, SLACK_TEXT))},
    ]
    if "group" in event:
        named = [*(_code(line, _SLACK_LINE) for line in _members(event)), *_rest(event)]
        blocks.append({"type": "section", "text": _mrkdwn("\n".join(named))})
    blocks.append({"type": "context", "elements": [_mrkdwn(_code(_origin(event)))]})
    if page_url is not None:
        link = "".join(_URL_ESCAPES.get(character, character) for character in page_url)
        blocks.append({"type": "section", "text": _mrkdwn(f"<{link}|{_LINK_TEXT}>")})
    return {"text": _fit(title, SLACK_TEXT, _escape), "blocks": blocks}


def _teams(event: Mapping[str, Any], page_url: str | None) -> Mapping[str, Any]:
    lines = [
        _runs({"text": _title(event)[:_LONGEST_VALUE], "weight": "Bolder", "size": "Medium"}),
        *(_runs({"text": f"{name}  ", "weight": "Bolder"}, {"text": value}) for name, value in _facts(event)),
        *(_runs({"text": line}) for line in (*_members(event), *_rest(event))),
        _runs({"text": _origin(event), "isSubtle": True, "size": "Small"}),
    ]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": lines,
    }
    if page_url is not None:
        card["actions"] = [{"type": "Action.OpenUrl", "title": _LINK_TEXT, "url": page_url}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _title(event: Mapping[str, Any]) -> str:
    kind, status, template = event["type"], event["alert"]["status"], event["subject"]["template"]
    title = _TITLES.get(kind, kind.replace("_", " ").capitalize())
    if (event["metric"]["name"] or "").startswith("reliability"):
        title = _TITLES_OF_RELIABILITY.get(kind, title)
    if "group" in event:
        return f"{title}: {_how_many(event)}"
    return _plain(title + (f" ({status})" if status else "") + (f": {template}" if template else ""))


def _facts(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value, one line and 300 characters at most; what an event has not is left out."""
    for name, value in _facts_of_group(event) if "group" in event else _facts_of_one(event):
        if value not in (None, ""):
            yield name, _short(str(value))


def _facts_of_one(event: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    subject, metric, alert = event["subject"], event["metric"], event["alert"]
    window = sorted({time for time in (metric["window_start"], metric["window_end"]) if time})
    return (
        ("Tenant", event["tenant"]),
        ("Template", subject["template"]),
        ("Extractor", _extractor(subject)),
        ("Metric", metric["name"]),
        ("Value", _number(metric["value"])),
        ("Threshold", _number(metric["threshold"])),
        ("Expected on", metric.get("expected_on")),
        ("Data", " to ".join(_to_the_second(time) for time in window)),
        ("Evaluations", metric["evaluation_count"]),
        ("Severity", alert["severity"]),
        ("Since", alert["started_at"] and _to_the_second(alert["started_at"])),
        ("Ended because", _ENDINGS.get(alert.get("resolved_because"))),
        ("Evaluation", event["evaluation_id"]),
        # An event of an endpoint names it here, because the body has no other place.
        ("Webhook" if event["type"] == "webhook_disabled" else "Correlation", event["correlation_id"]),
    )


def _facts_of_group(event: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    # The event's own alert is the group's most severe one.
    labels = [(_LABELS[label], value) for label, value in event["group"]["key"].items() if label in _LABELS]
    return (
        ("Tenant", event["tenant"]),
        *labels,
        ("Alerts", _how_many(event)),
        ("Highest severity", event["alert"]["severity"]),
    )


def _how_many(event: Mapping[str, Any]) -> str:
    counts = event["group"]["counts"]
    told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"{_count(event)} alert{'s' if _count(event) > 1 else ''} ({told})"


def _count(event: Mapping[str, Any]) -> int:
    return sum(event["group"]["counts"].values())


def _members(event: Mapping[str, Any]) -> Iterator[str]:
    """The first alerts of a group, a line each: whose, what was measured, how it stands."""
    for one in event["group"]["alerts"][:MOST_NAMED] if "group" in event else ():
        subject, alert = one["subject"], one["alert"]
        whose = " ".join(part for part in (subject["template"], _extractor(subject)) if part) or event["tenant"]
        stands = ", ".join(
            part for part in (_number(one["metric"]["value"]), alert["status"], alert["severity"]) if part
        )
        # The name gives way, not what follows it.
        yield f"{_short(whose, _LONGEST_NAME)}: {stands}"


def _rest(event: Mapping[str, Any]) -> Sequence[str]:
    more = _count(event) - MOST_NAMED if "group" in event else 0
    return [f"and {more} more"] if more > 0 else []


def _extractor(subject: Mapping[str, Any]) -> str:
    return " ".join(part for part in (subject["extractor_vendor"], subject["extractor_model"]) if part)


def _short(text: str, limit: int = _LONGEST_VALUE) -> str:
    text = _plain(text)
    return text if len(text) <= limit else text[: limit - 1] + _CUT


def _origin(event: Mapping[str, Any]) -> str:
    return f"{event['type']} {event['seq']} at {_to_the_second(event['occurred_at'])}, event {event['id']}"


def _to_the_second(time: str) -> str:
    """RFC 3339 in UTC, as people read it; what isn't is left as it is."""
    return re.sub(r"^([0-9-]{10})T([0-9:]{8})(\.[0-9]+)?Z$", r"\1 \2 UTC", time)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def _plain(text: str) -> str:
    """On one line, without characters that have no picture or turn the reading direction."""
    return "".join(character if character.isprintable() else " " for character in text)


_SLACK_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_URL_ESCAPES = {"&": "&amp;", "<": "%3C", ">": "%3E", "|": "%7C"}


def _escape(text: str) -> str:
    return "".join(_SLACK_ESCAPES.get(character, character) for character in text)


def _code(text: str, limit: int = SLACK_TEXT) -> str:
    # A code span ends at the next backtick, and there is no escape for one.
    return f"`{_fit(text.replace('`', chr(39)), limit - 2, _escape)}`"


def _fit(text: str, limit: int, escape: Callable[[str], str]) -> str:
    """As much of a text as has `limit` characters once it is escaped; never half an escape."""
    if len(escape(text)) <= limit:
        return escape(text)
    while len(escape(text)) > limit - len(_CUT):
        text = text[:-1]
    return escape(text) + _CUT


def _lines(lines: Sequence[str], limit: int) -> str:
    """As many whole lines as fit."""
    while len("\n".join(lines)) > limit:
        lines = lines[:-1]
    return "\n".join(lines)


def _mrkdwn(text: str) -> Mapping[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _runs(*runs: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", **run} for run in runs]}
