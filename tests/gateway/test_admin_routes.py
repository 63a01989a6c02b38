"""Webhooks, and whom alerts are told, over HTTP: as on the command line, and never another tenant's."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from alert_rows import evaluation, push, statuses
from delivering import LOOPBACK, SetClock, happen, send
from door import problem, serving
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from receiver import Receiver, receiving
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from gateway.options import DoorOptions
from sensors.alerts.scan import scan
from sensors.outbox import EVENT_TYPES
from storage.api_keys import ApiKey, create_key
from storage.database import Connection, Database
from storage.secrets import SecretBox
from storage.tenants import create_tenant

_DOCUMENTED = (
    *("/v1/webhooks", "/v1/alerts", "/v1/silences", "/v1/inhibitions", "/v1/notification-policy"),
    "/v1/recommendations",
)
URL = "https://example.com/services/T0/url-token"


@dataclass
class Door:
    """The door, and two tenants' keys of every scope."""

    client: httpx.Client
    database: Database
    connection: Connection
    clock: SetClock
    box: SecretBox
    keys: dict[tuple[str, str], tuple[ApiKey, str]]

    def __call__(
        self, method: str, path: str, body: object = None, *, tenant: str = "acme", scope: str = "admin", **query: Any
    ) -> httpx.Response:
        headers = {"X-API-Key": self.keys[tenant, scope][1]}
        content = {} if body is None else {"json": body}
        return self.client.request(method, f"/v1{path}", headers=headers, params=query, **content)  # type: ignore[arg-type]

    def create(self, url: str = URL, **members: object) -> dict[str, Any]:
        answer = self("POST", "/webhooks", {"url": url, **members})
        assert answer.status_code == 201, answer.text
        webhook: dict[str, Any] = answer.json()
        assert answer.headers["location"] == f"/v1/webhooks/{webhook['webhook_id']}"
        return webhook

    def audited(self, subject: object) -> list[tuple[str, str]]:
        return self.connection.execute(
            "select actor, action from access.audit_log where subject = %s order by entry_id", (str(subject),)
        ).fetchall()

    def actor(self, tenant: str = "acme") -> str:
        return f"key:{self.keys[tenant, 'admin'][0].key_id}"


@pytest.fixture
def door(database: Database, connection: Connection) -> Iterator[Door]:
    clock, keys = SetClock(), {}
    box = SecretBox([base64.urlsafe_b64encode(bytes(32)).decode()])
    for tenant in ("acme", "globex"):
        create_tenant(connection, tenant)
        for scope in ("read", "admin", "ingest"):
            keys[tenant, scope] = create_key(connection, tenant, [scope], now=clock.now())
    with serving(database, clock, DoorOptions(webhook_networks=LOOPBACK), box) as client:
        yield Door(client, database, connection, clock, box, keys)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def firing(door: Door) -> UUID:
    """A firing alert of acme."""
    now = door.clock.now()
    push(door.connection, "acme", [evaluation(1, at=now, drift_score=0.9)], now)
    scan(door.connection, now)
    (alert,) = door("GET", "/alerts", scope="read", event_type="drift_high").json()["data"]
    return UUID(alert["alert_id"])


def silence(door: Door, **members: object) -> dict[str, object]:
    """A silence of one hour."""
    ends_at = (door.clock.now() + timedelta(hours=1)).isoformat()
    return {"matchers": [{"name": "template", "value": "invoice"}], "ends_at": ends_at, **members}


def test_an_endpoint_is_registered_changed_tested_rotated_replayed_and_deleted_in_the_keys_name(
    door: Door, receiver: Receiver
) -> None:
    made = door.create(receiver.url, event_types=["drift_high", "drift_high"], description="ops")
    path = f"/webhooks/{made['webhook_id']}"
    assert (made["event_types"], made["status"], made["description"]) == (["drift_high"], "active", "ops")
    queued = door("POST", f"{path}/test")
    assert queued.status_code == 202
    assert send(door.database, door.box, door.clock).delivered == 1
    assert Webhook(made["secret"]).verify(receiver.requests[0].body, receiver.requests[0].headers)["type"] == (
        "webhook_test"
    )
    replayed = door("POST", f"/webhooks/deliveries/{queued.json()['delivery_id']}/replay")
    assert (replayed.status_code, replayed.json()["queued"]) == (202, True)
    rotated = door("POST", f"{path}/rotate").json()
    assert rotated["secret"] != made["secret"]
    send(door.database, door.box, door.clock)
    for secret in (made["secret"], rotated["secret"]):
        Webhook(secret).verify(receiver.requests[1].body, receiver.requests[1].headers)
    problem(door("POST", f"{path}/rotate", {"overlap_hours": -1}), 422)
    ended = door("POST", f"{path}/rotate", {"overlap_hours": 0}).json()
    door("POST", f"{path}/test")
    send(door.database, door.box, door.clock)
    assert receiver.requests[2].headers["webhook-signature"].count("v1,") == 1
    Webhook(ended["secret"]).verify(receiver.requests[2].body, receiver.requests[2].headers)
    changed = door("PATCH", path, {"url": URL, "status": "paused", "event_types": []}).json()
    assert (changed["url"], changed["status"], changed["event_types"], changed["description"]) == (
        "https://example.com/…",
        "paused",
        [],
        "ops",
    )
    assert door("PATCH", path, {}).json() == door("GET", path).json() == changed
    assert door("PATCH", path, {"status": "active"}).json()["status"] == "active"
    _, delivery = door("GET", f"{path}/deliveries", state="delivered").json()["data"]
    assert (delivery["status_code"], delivery["response"], delivery["attempts"]) == (200, "ok", 1)
    gone = door("DELETE", path)
    assert (gone.status_code, gone.content) == (204, b"")
    problem(door("GET", path), 404)
    assert door("GET", "/webhooks").json() == {"data": [], "next_cursor": None}
    problem(door("POST", f"/webhooks/deliveries/{delivery['delivery_id']}/replay"), 409)
    actions = ("create", "test", "rotate", "rotate", "test", "change_url", "change", "pause", "resume", "delete")
    assert door.audited(made["webhook_id"]) == [(door.actor(), f"webhook.{action}") for action in actions]
    assert door.audited(delivery["delivery_id"]) == [(door.actor(), "webhook.replay")]


def test_an_endpoint_of_a_format_keeps_its_address_to_itself_and_is_served_as_it_wishes(door: Door) -> None:
    made = door.create(URL, format="teams", ed25519=True, retry_profile="standard", rate_per_second=5, ordered=True)
    path = f"/webhooks/{made['webhook_id']}"
    assert (made["url"], made["format"], made["retry_profile"]) == ("https://example.com/…", "teams", "standard")
    assert (made["max_in_flight"], made["rate_per_second"], made["ordered"]) == (8, 5.0, True)
    (public_key,) = made["public_keys"]
    assert public_key.startswith("whpk_")
    changed = door("PATCH", path, {"rate_per_second": None, "max_in_flight": 2, "ed25519": False}).json()
    assert (changed["rate_per_second"], changed["max_in_flight"], changed["public_keys"]) == (None, 2, [])
    assert changed["retry_profile"] == "standard"
    for wrong in ({"format": "slack"}, {"max_in_flight": 0}, {"rate_per_second": 0}, {"retry_profile": "slow"}):
        problem(door("PATCH", path, wrong), 422)
    # What is shown is no address: sent back, it is refused and not taken for one.
    problem(door("PATCH", path, {"url": made["url"]}), 422)
    assert "url-token" not in str(door.connection.execute("select t::text from alerting.webhooks t").fetchall())


def test_dead_letters_are_listed_over_all_endpoints_and_sent_again_all_at_once(door: Door, receiver: Receiver) -> None:
    hooks = [door.create(receiver.url)["webhook_id"] for _ in range(2)]
    happen(door.connection, "acme", door.clock, "one")
    door.connection.execute("update alerting.webhook_deliveries set state = 'failed'")
    listed = door("GET", "/webhooks/deliveries", state="failed", event_type="drift_high").json()["data"]
    assert {row["webhook_id"] for row in listed} == set(hooks)
    problem(door("GET", "/webhooks/deliveries", event_type="drift_hihg"), 422)
    chosen = {"webhook_id": hooks[0], "since": (door.clock.now() - timedelta(hours=1)).isoformat()}
    assert door("POST", "/webhooks/deliveries/replay", chosen | {"dry_run": True}).json()["queued"] == 1
    for queued in (1, 0):
        answered = door("POST", "/webhooks/deliveries/replay", chosen)
        assert (answered.status_code, answered.json()) == (202, {"queued": queued, "without_body": 0, "left": 0})
    assert door.audited(hooks[0])[-1] == (door.actor(), "webhook.replay_range")
    problem(door("POST", "/webhooks/deliveries/replay", {"state": "delivered"}), 422)
    problem(door("POST", "/webhooks/deliveries/replay", {"state": "pending"}), 422)
    problem(door("POST", "/webhooks/deliveries/replay", {"webhook_id": str(uuid4())}), 404)


def test_a_change_that_is_wrong_in_part_changes_nothing(door: Door) -> None:
    made = door.create()
    path = f"/webhooks/{made['webhook_id']}"
    before = door("GET", path).json()
    wrong = door("PATCH", path, {"url": "https://example.com/other", "status": "paused", "event_types": ["drift_hihg"]})
    assert "Known: drift_high" in str(problem(wrong, 422)["detail"])
    assert door("GET", path).json() == before
    assert door.audited(made["webhook_id"]) == [(door.actor(), "webhook.create")]


def test_a_secret_is_in_the_answer_that_makes_it_and_nowhere_else(door: Door) -> None:
    with capture_logs() as logs:
        made = door.create()
        path = f"/webhooks/{made['webhook_id']}"
        rotated = door("POST", f"{path}/rotate").json()
        door("POST", f"{path}/test")
        refused = door("POST", "/webhooks", {"url": "http://10.0.0.1/url-token", "secret": made["secret"]})
        later = [
            door("GET", path),
            door("GET", "/webhooks"),
            door("GET", f"{path}/deliveries"),
            door("PATCH", path, {"description": "x"}),
            refused,
        ]
    problem(refused, 422)
    audit = door.connection.execute("select detail::text from access.audit_log").fetchall()
    stored = door.connection.execute("select sealed from alerting.webhook_secrets").fetchall()
    for secret in (made["secret"], rotated["secret"]):
        assert secret.startswith("whsec_")
        assert all(secret not in answer.text for answer in later)
        assert secret not in str(logs)
        assert secret not in str(audit)
        assert all(secret.encode() not in bytes(row[0]) for row in stored)
    assert logs
    assert "url-token" not in str(logs)
    assert "url-token" not in str(audit)


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({}, "url"),
        ({"url": 7}, "url"),
        ({"url": None}, "url"),
        ({"url": URL, "colour": "red"}, "colour"),
        ({"url": URL, "event_types": "drift_high"}, "event_types"),
        ({"url": URL, "description": "a\0b"}, "description"),
        ([], "body"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_naming_the_member(door: Door, body: object, parameter: str) -> None:
    errors = problem(door("POST", "/webhooks", body), 422)["errors"]
    assert isinstance(errors, list)
    assert [error["parameter"] for error in errors] == [parameter]


def test_addresses_that_webhooks_must_not_reach_and_oversized_or_foreign_bodies_are_refused(door: Door) -> None:
    detail = str(problem(door("POST", "/webhooks", {"url": "https://169.254.169.254/"}), 422)["detail"])
    assert "cloud metadata" in detail
    problem(door("POST", "/webhooks", {"url": URL, "description": "x" * 70_000}), 413)
    headers = {"X-API-Key": door.keys["acme", "admin"][1]}
    problem(door.client.post("/v1/webhooks", headers=headers, data={"url": URL}), 415)
    problem(door.client.post("/v1/webhooks", headers=headers | {"content-type": "application/json"}, content="{"), 400)
    assert door("GET", "/webhooks").json()["data"] == []


def test_lists_come_in_pages_that_hold_everything_once(door: Door) -> None:
    hooks = [door.create(f"https://example.com/{number}")["webhook_id"] for number in range(5)]
    happen(door.connection, "acme", door.clock, *"abcdefg")
    silences = [
        door("POST", "/silences", silence(door, comment=str(number))).json()["silence_id"] for number in range(5)
    ]
    deliveries = [
        str(row[0])
        for row in door.connection.execute(
            """select delivery_id from alerting.webhook_deliveries join alerting.events using (event_id)
            where webhook_id = %s order by seq desc""",
            (hooks[0],),
        )
    ]
    assert len(deliveries) == 7
    for path, name, expected in (
        ("/webhooks", "webhook_id", hooks),
        (f"/webhooks/{hooks[0]}/deliveries", "delivery_id", deliveries),
        ("/silences", "silence_id", sorted(silences, reverse=True)),
    ):
        scope = "read" if path == "/silences" else "admin"
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = door("GET", path, scope=scope, limit=2, **cursor).json()
            found += [row[name] for row in page["data"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert found == expected, path
    cursor = {"cursor": door("GET", f"/webhooks/{hooks[0]}/deliveries", limit=2).json()["next_cursor"]}
    problem(door("GET", f"/webhooks/{hooks[1]}/deliveries", **cursor), 422)
    problem(door("GET", f"/webhooks/{hooks[1]}/deliveries", state="lost"), 422)
    problem(door("GET", "/webhooks", colour="red"), 422)


def test_an_alert_is_found_acknowledged_and_resolved_once_and_its_endpoints_are_told(door: Door, firing: UUID) -> None:
    (alert,) = door("GET", "/alerts", scope="read", status="firing").json()["data"]
    assert (alert["event_type"], alert["value"], alert["template"]) == ("drift_high", 0.9, "invoice")
    assert "from raw.evaluations" in alert["evidence"]["sql"]
    assert door("GET", "/alerts", scope="read", status="pending").json()["data"] == []
    assert len(door("GET", "/alerts", scope="read").json()["data"]) == 2
    assert door("GET", "/alerts", scope="read", template="claim").json()["data"] == []
    for changed in (True, False):
        assert door("POST", f"/alerts/{firing}/ack", {"by": "ana"}).json() == {
            "alert_id": str(firing),
            "changed": changed,
        }
    for changed in (True, False):
        assert door("POST", f"/alerts/{firing}/resolve").json()["changed"] is changed
    (alert,) = door("GET", "/alerts", scope="read", event_type="drift_high").json()["data"]
    assert (alert["status"], alert["acked_by"]) == ("resolved", "ana")
    assert statuses(door.connection, "drift_high") == ["firing", "resolved"]
    assert door.audited(firing) == [(door.actor(), "alert.ack"), (door.actor(), "alert.resolve")]


def test_an_acknowledgement_without_a_name_is_the_keys(door: Door, firing: UUID) -> None:
    assert door("POST", f"/alerts/{firing}/ack").json()["changed"]
    assert door("GET", "/alerts", scope="read", status="firing").json()["data"][0]["acked_by"] == door.actor()


def test_a_silence_is_set_seen_and_ended(door: Door) -> None:
    now = door.clock.now()
    later = {"starts_at": (now + timedelta(minutes=10)).isoformat()}
    running, waiting = (door("POST", "/silences", silence(door, **more)).json() for more in ({}, later))
    assert (running["state"], waiting["state"], running["author"]) == ("active", "pending", door.actor())
    assert running["matchers"] == [{"name": "template", "operator": "=", "value": "invoice"}]
    assert datetime.fromisoformat(running["starts_at"]) == now
    door.clock.move(seconds=1)
    for set_one in (running, waiting):
        assert door("DELETE", f"/silences/{set_one['silence_id']}").status_code == 204
        assert door.audited(set_one["silence_id"]) == [(door.actor(), f"silence.{what}") for what in ("create", "end")]
    problem(door("DELETE", f"/silences/{running['silence_id']}"), 409)
    problem(door("DELETE", f"/silences/{waiting['silence_id']}"), 404)
    (left,) = door("GET", "/silences", scope="read", state="ended").json()["data"]
    assert (left["silence_id"], datetime.fromisoformat(left["ends_at"])) == (running["silence_id"], door.clock.now())


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"matchers": []}, "matchers"),
        ({"matchers": [{"name": "tenant_id", "value": "globex"}]}, "matchers.0.name"),
        ({"matchers": [{"name": "template", "operator": "~", "value": "a"}]}, "matchers.0.operator"),
        ({"matchers": [{"name": "template", "operator": "=~", "value": "a)|(b"}]}, "isn't a regular expression"),
        ({"matchers": [{"name": "template", "operator": "=~", "value": ".*"}]}, "without any label"),
        ({"matchers": [{"name": "template", "value": "a"}, {"name": "template", "value": "b"}]}, "two values at once"),
        ({"ends_at": "2020-01-01T00:00:00Z"}, "ends_at"),
        ({"ends_at": "2099-01-01T00:00:00"}, "ends_at"),
        ({"starts_at": "2099-01-01T00:00:00Z"}, "ends_at"),
        ({"reason": "x"}, "reason"),
    ],
)
def test_a_silence_that_makes_no_sense_is_refused(door: Door, members: dict[str, object], told: str) -> None:
    assert told in str(problem(door("POST", "/silences", silence(door, **members)), 422)["detail"])
    assert door("GET", "/silences", scope="read").json()["data"] == []


def inhibition(**members: object) -> dict[str, object]:
    """While the template drifts, nothing else of it is told."""
    source = [{"name": "event_type", "value": "drift_high"}]
    target = [{"name": "event_type", "operator": "!=", "value": "drift_high"}, {"name": "template", "value": "invoice"}]
    return {"source_matchers": source, "target_matchers": target, "equal": ["template"], **members}


def test_an_inhibition_is_set_once_seen_and_removed(door: Door) -> None:
    set_one = door("POST", "/inhibitions", inhibition())
    assert set_one.status_code == 201
    identifier = set_one.json()["inhibition_id"]
    problem(door("POST", "/inhibitions", inhibition()), 409)
    second = door("POST", "/inhibitions", inhibition(equal=[])).json()["inhibition_id"]
    first_page = door("GET", "/inhibitions", scope="read", limit=1).json()
    (row,) = first_page["data"]
    assert row["target_matchers"][0] == {"name": "event_type", "operator": "!=", "value": "drift_high"}
    assert (row["inhibition_id"], row["equal"]) == (identifier, ["template"])
    rest = door("GET", "/inhibitions", scope="read", cursor=first_page["next_cursor"]).json()
    assert ([row["inhibition_id"] for row in rest["data"]], rest["next_cursor"]) == ([second], None)
    assert door("DELETE", f"/inhibitions/{identifier}").status_code == 204
    problem(door("DELETE", f"/inhibitions/{identifier}"), 404)
    assert door.audited(identifier) == [(door.actor(), f"inhibition.{what}") for what in ("add", "remove")]


def test_a_policy_is_set_whole_and_unset(door: Door) -> None:
    nothing = {
        "group_by": None,
        "group_wait": 0,
        "group_interval": 300,
        "repeat_interval": None,
        "suppression_window": None,
    }
    assert door("GET", "/notification-policy", scope="read").json() == nothing
    wanted = {"group_by": ["template"], "group_wait": 30, "repeat_interval": 3600.5}
    assert door("PUT", "/notification-policy", wanted).json() == nothing | wanted
    assert door("GET", "/notification-policy", scope="read").json() == nothing | wanted
    assert door("GET", "/notification-policy", tenant="globex", scope="read").json() == nothing
    assert door("PUT", "/notification-policy", {"suppression_window": 60}).json() == nothing | {
        "suppression_window": 60
    }
    for _ in range(2):
        assert door("DELETE", "/notification-policy").status_code == 204
    assert door("GET", "/notification-policy", scope="read").json() == nothing
    assert door.audited("acme")[-3:] == [(door.actor(), f"policy.{what}") for what in ("set", "set", "unset")]


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("POST", "/inhibitions", inhibition(source_matchers=[]), "source_matchers"),
        ("POST", "/inhibitions", inhibition(equal=["tenant_id"]), "equal.0"),
        ("POST", "/inhibitions", inhibition(equal=["template", "template"]), "equal: each label once"),
        (
            "POST",
            "/inhibitions",
            inhibition(target_matchers=[{"name": "template", "operator": "!=", "value": "a"}]),
            "target_matchers: they fit an alert without any label",
        ),
        ("PUT", "/notification-policy", {"group_by": ["id"]}, "group_by.0"),
        ("PUT", "/notification-policy", {"group_by": ["template", "template"]}, "group_by: each label once"),
        ("PUT", "/notification-policy", {"group_wait": -1}, "group_wait"),
        ("PUT", "/notification-policy", {"group_interval": 1e300}, "group_interval"),
        ("PUT", "/notification-policy", {"repeat_interval": 0}, "repeat_interval"),
        ("PUT", "/notification-policy", {"suppression_window": "60"}, "suppression_window"),
        ("PUT", "/notification-policy", {"repeat": 60}, "repeat"),
    ],
)
def test_an_inhibition_or_policy_that_makes_no_sense_is_refused(
    door: Door, method: str, path: str, body: dict[str, object], told: str
) -> None:
    assert told in str(problem(door(method, path, body), 422)["detail"])
    assert door("GET", "/inhibitions", scope="read").json()["data"] == []


@hypothesis_settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(unknown=st.uuids())
def test_what_is_another_tenants_reads_byte_for_byte_as_unknown_and_stays_as_it_is(
    door: Door, request: pytest.FixtureRequest, unknown: UUID
) -> None:
    made = door.create()
    delivery = door("POST", f"/webhooks/{made['webhook_id']}/test").json()["delivery_id"]
    set_one = door("POST", "/silences", silence(door)).json()
    rule = door("POST", "/inhibitions", inhibition(equal=[])).json() if not _rules(door) else _rules(door)[0]
    alert = request.getfixturevalue("firing")
    before = _state(door.connection)
    for method, path, body, theirs in (
        ("GET", "/webhooks/{}", None, made["webhook_id"]),
        ("PATCH", "/webhooks/{}", {"url": URL, "status": "paused"}, made["webhook_id"]),
        ("PATCH", "/webhooks/{}", {"event_types": []}, made["webhook_id"]),
        ("PATCH", "/webhooks/{}", {}, made["webhook_id"]),
        ("DELETE", "/webhooks/{}", None, made["webhook_id"]),
        ("POST", "/webhooks/{}/test", None, made["webhook_id"]),
        ("POST", "/webhooks/{}/rotate", None, made["webhook_id"]),
        ("GET", "/webhooks/{}/deliveries", None, made["webhook_id"]),
        ("POST", "/webhooks/deliveries/{}/replay", None, delivery),
        ("POST", "/alerts/{}/ack", {"by": "eve"}, alert),
        ("POST", "/alerts/{}/resolve", None, alert),
        ("DELETE", "/silences/{}", None, set_one["silence_id"]),
        ("GET", "/silences/{}/suppressed", None, set_one["silence_id"]),
        ("DELETE", "/inhibitions/{}", None, rule["inhibition_id"]),
    ):
        scope = "read" if path.endswith("suppressed") else "admin"
        crossed = door(method, path.format(theirs), body, tenant="globex", scope=scope)
        problem(crossed, 404)
        assert crossed.content == door(method, path.format(unknown), body, tenant="globex", scope=scope).content, path
    for path, scope in (
        ("/webhooks", "admin"),
        ("/alerts", "read"),
        ("/silences", "read"),
        ("/inhibitions", "read"),
    ):
        assert door("GET", path, tenant="globex", scope=scope).json()["data"] == []
    assert _state(door.connection) == before


def _rules(door: Door) -> list[dict[str, str]]:
    rules: list[dict[str, str]] = door("GET", "/inhibitions", scope="read").json()["data"]
    return rules


def _state(connection: Connection) -> list[object]:
    tables = ("webhooks", "webhook_secrets", "webhook_deliveries", "alerts", "silences", "inhibitions", "events")
    rows = [connection.execute(f"select * from alerting.{table} order by 1").fetchall() for table in tables]  # type: ignore[arg-type]  # noqa: S608
    return [*rows, connection.execute("select count(*) from access.audit_log").fetchall()]


def test_each_route_asks_for_its_scope(door: Door) -> None:
    missing = uuid4()
    for scope, routes in (
        (
            "read",
            (
                ("GET", "/evaluations"),
                ("GET", "/recommendations"),
                ("GET", "/alerts"),
                ("GET", "/silences"),
                ("GET", f"/silences/{missing}/suppressed"),
                ("GET", "/inhibitions"),
                ("GET", "/notification-policy"),
            ),
        ),
        (
            "admin",
            (
                ("GET", "/webhooks"),
                ("POST", "/webhooks"),
                ("GET", f"/webhooks/{missing}"),
                ("PATCH", f"/webhooks/{missing}"),
                ("DELETE", f"/webhooks/{missing}"),
                ("POST", f"/webhooks/{missing}/test"),
                ("POST", f"/webhooks/{missing}/rotate"),
                ("GET", f"/webhooks/{missing}/deliveries"),
                ("POST", f"/webhooks/deliveries/{missing}/replay"),
                ("POST", f"/alerts/{missing}/ack"),
                ("POST", f"/alerts/{missing}/resolve"),
                ("POST", "/silences"),
                ("DELETE", f"/silences/{missing}"),
                ("POST", "/inhibitions"),
                ("DELETE", f"/inhibitions/{missing}"),
                ("PUT", "/notification-policy"),
                ("DELETE", "/notification-policy"),
            ),
        ),
    ):
        for method, path in routes:
            for other in {"read", "admin", "ingest"} - {scope}:
                refused = problem(door(method, path, scope=other), 403)
                assert refused["missing_scope"] == scope
            problem(door.client.request(method, f"/v1{path}"), 401)


def test_openapi_documents_each_route_with_its_body_and_its_refusals(door: Door) -> None:
    document = door.client.get("/openapi.json").json()
    assert "$defs" not in str(document)
    for path, methods in document["paths"].items():
        if not path.startswith(_DOCUMENTED):
            continue
        for method, operation in methods.items():
            assert {"401", "403", "422", "503"} <= set(operation["responses"]), path
            assert operation["security"], path
            assert ("{" in path) == ("404" in operation["responses"]) or path.endswith(
                ("/recommendations", "/deliveries/replay")
            ), path
            takes_body = method in ("patch", "put") or (method, path.rpartition("/")[2]) in (
                ("post", "webhooks"),
                ("post", "silences"),
                ("post", "inhibitions"),
                ("post", "ack"),
                ("post", "rotate"),
            )
            takes_body = takes_body or path == "/v1/webhooks/deliveries/replay"
            assert ("requestBody" in operation) == takes_body, path
    event_types = document["paths"]["/v1/alerts"]["get"]["parameters"][1]["schema"]["enum"]
    assert event_types == list(EVENT_TYPES)
