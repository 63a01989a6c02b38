"""Rules: whose bound holds, how often it has to be broken, what lies between raising and ending, and new baselines."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from alert_rows import NOW, alerts, evaluation, events, push, statuses

from sensors.alerts.administration import acknowledge, list_alerts, resolve
from sensors.alerts.rebaselines import end_rebaseline, list_rebaselines, rebaseline
from sensors.alerts.scan import scan
from sensors.alerts.thresholds import list_thresholds, set_threshold, unset_threshold
from storage.database import Connection
from storage.errors import ConflictError, UsageError
from storage.tenants import create_tenant, set_tier

TYPE = "drift_high"


class Feed:
    """Evaluations of one extractor, one after the other, each scanned by itself."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self.connection, self.tenant, self.sent = connection, tenant, 0

    def send(self, scores: Sequence[float], **fields: object) -> None:
        for score in scores:
            self.sent += 1
            push(self.connection, self.tenant, [evaluation(self.sent, drift_score=score, **fields)])
            scan(self.connection, NOW)

    def firing(self) -> UUID:
        [alert] = list_alerts(self.connection, self.tenant, status="firing", event_type=TYPE)
        assert isinstance(alert["alert_id"], UUID)
        return alert["alert_id"]


@pytest.fixture
def feed(connection: Connection, tenant: str) -> Feed:
    return Feed(connection, tenant)


def test_the_most_specific_of_all_scopes_holds_and_each_gives_way_to_the_next(
    connection: Connection, tenant: str, feed: Feed
) -> None:
    set_tier(connection, tenant, "gold")
    extractor = ("vendor-a", "model-1")
    scopes: list[tuple[str | None, dict[str, object]]] = [
        (None, {"tier": "gold"}),
        (tenant, {}),
        (tenant, {"extractor": extractor}),
        (tenant, {"template": "invoice"}),
        (tenant, {"template": "invoice", "extractor": extractor}),
    ]
    for number, (owner, scope) in enumerate(scopes):
        set_threshold(connection, owner, TYPE, 0.4 + number / 10, **scope)  # type: ignore[arg-type]
    set_threshold(connection, None, TYPE, 0.9, tier="silver")
    set_threshold(connection, tenant, TYPE, 0.05, template="invoice", extractor=("vendor-a", "model-2"))
    listed = [str(row.scope) for row in list_thresholds(connection, tenant) if row.event_type == TYPE]
    assert listed == [
        "template invoice and extractor vendor-a/model-1",
        "template invoice and extractor vendor-a/model-2",
        "template invoice",
        "extractor vendor-a/model-1",
        "all templates",
        "tier gold",
        "default",
    ]
    for number, (owner, scope) in reversed(list(enumerate(scopes))):
        bound = 0.4 + number / 10
        feed.send([bound, bound + 0.01])
        told = events(connection, TYPE)[-1]
        assert (told["alert"]["status"], told["metric"]["threshold"]) == ("firing", pytest.approx(bound))  # type: ignore[index]
        resolve(connection, tenant, feed.firing(), now=NOW)
        unset_threshold(connection, owner, TYPE, **scope)  # type: ignore[arg-type]
    set_tier(connection, tenant, None)
    feed.send([0.3, 0.31])
    assert events(connection, TYPE)[-1]["metric"]["threshold"] == 0.3  # type: ignore[index]


def test_between_the_bound_and_the_clear_value_nothing_is_told_however_a_metric_flaps(
    connection: Connection, tenant: str, feed: Feed
) -> None:
    set_threshold(connection, tenant, TYPE, 0.3, clear_value=0.2, clear_n=2)
    feed.send([0.25, 0.31, *[0.25, 0.35] * 8, 0.2, 0.25, 0.1])
    assert statuses(connection, TYPE) == ["firing"], "0.25 came between the two that are within"
    feed.send([0.1, 0.25, 0.1])
    assert statuses(connection, TYPE) == ["firing", "resolved"]


def test_an_alert_is_pending_until_it_was_broken_often_enough_in_a_row_and_tells_nobody_till_then(
    connection: Connection, tenant: str, feed: Feed
) -> None:
    set_threshold(connection, tenant, TYPE, for_n=3)
    feed.send([0.9, 0.9])
    [pending] = list_alerts(connection, tenant, status="pending")
    assert acknowledge(connection, tenant, pending["alert_id"], by="ana", now=NOW)  # type: ignore[arg-type]
    feed.send([0.1])
    assert list_alerts(connection, tenant, event_type=TYPE) == [], "it was nothing"
    feed.send([0.9, 0.9])
    assert resolve(connection, tenant, pending["alert_id"], now=NOW)  # type: ignore[arg-type]
    feed.send([0.9, 0.9])
    assert statuses(connection, TYPE) == []
    feed.send([0.8])
    [told] = events(connection, TYPE)
    assert told["metric"]["window_start"] == "2026-05-10T11:00:06Z", "the first of the three"  # type: ignore[index]
    [row] = [row for row in alerts(connection) if row[1] == TYPE]
    assert row[5:9] == (1, "firing", 0.8, 3), "one row all the time"
    [firing] = list_alerts(connection, tenant, status="firing", event_type=TYPE)
    assert (firing["alert_id"], firing["acked_by"]) == (pending["alert_id"], None)


def test_a_rebaseline_ends_a_permanent_shift_until_it_gets_worse_or_the_rebaseline_is_ended(
    connection: Connection, tenant: str, feed: Feed
) -> None:
    set_threshold(connection, tenant, TYPE, 0.3, clear_value=0.25, clear_n=1)
    feed.send([0.5, 0.62, 0.55])
    feed.send([0.5], extractor_model="model-2")
    [alert_id] = [
        row["alert_id"]
        for row in list_alerts(connection, tenant, status="firing", event_type=TYPE)
        if row["extractor_model"] == "model-1"
    ]
    assert isinstance(alert_id, UUID)
    with pytest.raises(UsageError, match=r"0\.5 would be broken"):
        rebaseline(connection, tenant, alert_id, reason="new forms", author="ana", now=NOW, bound=0.5)
    with pytest.raises(UsageError, match="say why"):
        rebaseline(connection, tenant, alert_id, reason=" ", author="ana", now=NOW)
    made = rebaseline(connection, tenant, alert_id, reason="new forms", author="ana", now=NOW)
    assert (made["bound"], made["previous_bound"]) == (0.62, 0.3)
    assert [body["alert"]["status"] for body in events(connection, TYPE)][-1] == "resolved"  # type: ignore[index]
    with pytest.raises(ConflictError, match="only an alert that fires"):
        rebaseline(connection, tenant, alert_id, reason="again", author="ana", now=NOW)
    told = len(events(connection, TYPE))
    feed.send([0.62, 0.5, 0.6])
    assert len(events(connection, TYPE)) == told
    feed.send([0.63, 0.6, 0.57])
    metrics = [
        (body["alert"]["status"], body["metric"]["value"], body["metric"]["threshold"])  # type: ignore[index]
        for body in events(connection, TYPE)[told:]
    ]
    assert metrics == [("firing", 0.63, 0.62), ("resolved", 0.57, 0.62)], "the distance to the clear value stays"
    end_rebaseline(connection, tenant, made["rebaseline_id"], now=NOW)
    with pytest.raises(ConflictError, match="ended already"):
        end_rebaseline(connection, tenant, made["rebaseline_id"], now=NOW)
    create_tenant(connection, "other")
    with pytest.raises(UsageError, match="unknown re-baseline"):
        end_rebaseline(connection, "other", made["rebaseline_id"], now=NOW)
    feed.send([0.5])
    assert events(connection, TYPE)[-1]["metric"]["threshold"] == 0.3  # type: ignore[index]
    assert [row["reason"] for row in list_rebaselines(connection, tenant)] == ["new forms"]
    actions = [row[0] for row in connection.execute("select action from access.audit_log order by entry_id")]
    assert [action for action in actions if "rebaseline" in action] == ["alert.rebaseline", "alert.rebaseline_end"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event_type": TYPE, "clear_value": 0.4}, "can't be above the threshold 0.3"),
        ({"event_type": "reliability_low", "clear_value": 0.7}, "can't be below the threshold 0.8"),
        ({"event_type": "template_new", "clear_value": 0.0}, "nothing between"),
        ({"event_type": TYPE, "for_n": 0}, "for-n"),
        ({"event_type": "evaluations_missing", "for_n": 2}, "not in a row"),
        ({"event_type": "drift_anomaly", "value": 0.1, "extractor": ("v", "m")}, "not about an extractor"),
        ({"event_type": "records_rejected", "value": 0.1, "template": "invoice"}, "all that a tenant sends"),
        ({"event_type": "feature_drift", "value": -1.0}, "standard deviations"),
        ({"event_type": TYPE, "value": 0.4, "tier": "gold"}, "for a tenant or for a tier"),
        ({"event_type": TYPE, "value": 0.4, "tenant_id": None, "tier": "Gold!"}, "tier 'Gold!'"),
        ({"event_type": TYPE, "tenant_id": None, "tier": "gold", "template": "x"}, "name neither"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_the_remedy(
    connection: Connection, tenant: str, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        set_threshold(connection, **({"tenant_id": tenant} | arguments))  # type: ignore[arg-type]


def test_a_new_bound_takes_the_clear_value_along(connection: Connection, tenant: str) -> None:
    set_threshold(connection, tenant, TYPE, 0.3, clear_value=0.25)
    assert set_threshold(connection, tenant, TYPE, 0.5, template="invoice").clear_value == pytest.approx(0.45)
    assert set_threshold(connection, tenant, TYPE, 0.5, template="invoice", clear_value="none").clear_value is None
