"""What tests of the warehouse share: records of two tenants, landed through the one door, and marts read back whole."""

import json
import random
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from psycopg.rows import dict_row
from selection_rows import plant_shares

from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line, Receipt
from assets.warehouse.build import run_dbt
from assets.warehouse.project import kept_manifest
from storage.database import Connection, Database

Record = dict[str, Any]
TENANTS = ("acme", "globex")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
FIRST_DAY = datetime(2026, 4, 1, tzinfo=UTC)
DAYS = 40
TEMPLATES = ("invoice", "receipt", "a|b", "ä 'quoted' {template}")
# What the snapshot of every template has published; the extractor ("x", "y|m1") has no share in it.
SHARES = {("x", "m1"): 0.5, ("x|y", "m1"): 0.25, ("x|y", "y|m1"): 0.25}
BATCH_KEYS = {"whole": 1, "b'1": 5, "never landed": 3}

# What says when and how records arrived rather than what they say: it differs with the order in which they came.
_OF_ARRIVAL = {
    "batch_reconciliation": [
        *("declared_at", "due_at", "first_landed_at", "last_landed_at"),
        *("rejected_count", "conflict_count", "never_sent_count"),
    ],
    "data_quality": [
        *("late_count", "batch_count", "rejected_count", "conflict_count", "duplicate_count", "rejected_share"),
    ],
    "dim_templates": ["first_seen_at"],
    "dim_tenants": ["created_at"],
}
_ALL_OF_ARRIVAL = ("tenant_usage", "drift_history_versions")
# A midnight between two builds changes these.
_OF_THE_CLOCK = {"overview": ["today", "evaluations_today"]}


class Sent(NamedTuple):
    """One record on its way."""

    tenant: str
    kind: Literal["evaluations", "feedback"]
    record: Record


def mart_names() -> tuple[str, ...]:
    """The names of all marts, from the dbt project."""
    nodes = kept_manifest().read()["nodes"].values()
    return tuple(sorted(n["name"] for n in nodes if n["resource_type"] == "model" and n["schema"] == "marts"))


def empty_marts(database: Database) -> None:
    """All models are built, of nothing: for tests of what comes after the first build (`begins`)."""
    run_dbt(["run"], database)


def evaluation(**fields: Any) -> Record:
    """A good evaluation record, with `fields` in place of its own."""
    return {
        "template": "invoice",
        "extractor_vendor": "acme-ai",
        "extractor_model": "reader-1",
        "drift_score": 0.1,
        "reliability_score": 0.9,
        "decision": "accept",
        "created_at": "2026-05-01T08:00:00Z",
    } | fields


def push(connection: Connection, tenant: str, kind: Any, records: Iterable[Record]) -> Receipt:
    """Land the records as one batch."""
    lines = [Line(number, json.dumps(record).encode()) for number, record in enumerate(records, start=1)]
    return land(connection, tenant, kind, lines, door="test", now=NOW)


def push_all(connection: Connection, sent: Iterable[Sent]) -> None:
    """Land records of any tenant and kind, one batch for each of both, in the order in which they first come."""
    batches: dict[tuple[str, str], list[Record]] = {}
    for item in sent:
        batches.setdefault((item.tenant, item.kind), []).append(item.record)
    for (tenant, kind), records in batches.items():
        push(connection, tenant, kind, records)


def rows_of(connection: Connection, relation: str) -> list[Record]:
    """The rows of a relation as dictionaries, in the order of the first column."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(f"select * from {relation} order by 1")  # type: ignore[arg-type]  # noqa: S608
        return cursor.fetchall()


def declare_batches(connection: Connection) -> None:
    """Declare for each tenant how many records of each batch key it will have sent."""
    for tenant in TENANTS:
        for batch_key, expected in BATCH_KEYS.items():
            connection.execute(
                "insert into raw.batch_manifests (tenant_id, batch_key, expected) values (%s, %s, %s)",
                (tenant, batch_key, expected),
            )


def publish_shares(connection: Connection) -> None:
    """Write down the snapshot of each template of each tenant, as if it had been recommended by."""
    for tenant in TENANTS:
        for template in TEMPLATES:
            plant_shares(connection, snapshot_id(tenant, template), tenant, template, SHARES)


def snapshot_id(tenant: str, template: str) -> str:
    """The snapshot of a tenant's template."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{tenant}/{template}"))


def whole_marts(connection: Connection) -> dict[str, list[str]]:
    """Every row of every mart, and every column but those that follow the clock."""
    return {mart: _read(connection, mart, []) for mart in mart_names()}


def content_of_marts(connection: Connection) -> dict[str, list[str]]:
    """Every row of every mart, without what says when and how records arrived."""
    content = {
        mart: _read(connection, mart, _OF_ARRIVAL.get(mart, [])) for mart in mart_names() if mart not in _ALL_OF_ARRIVAL
    }
    # A day on which something was received, of which nothing has happened, has a row of zeros.
    content["data_quality"] = [row for row in content["data_quality"] if '"evaluation_count": 0' not in row]
    return content


def _read(connection: Connection, mart: str, without: list[str]) -> list[str]:
    query = f"select (to_jsonb(mart) - %s::text[])::text as row from marts.{mart} as mart order by 1"  # noqa: S608
    left_out = [*without, *_OF_THE_CLOCK.get(mart, [])]
    return [row for (row,) in connection.execute(query, (left_out,))]  # type: ignore[arg-type]


def some_records(seed: int, count: int = 120) -> list[Sent]:
    """Evaluations and feedback of both tenants, with everything that the contract allows to be awkward."""
    chance = random.Random(seed)  # noqa: S311
    sent: list[Sent] = []
    for tenant in TENANTS:
        sent += [Sent(tenant, "evaluations", _evaluation(chance, tenant, number)) for number in range(count)]
        sent += [Sent(tenant, "feedback", _feedback(chance, tenant, number, count)) for number in range(count // 2)]
    return sent


def records_of(sent: Iterable[Sent], tenant: str, kind: str) -> list[Record]:
    """One tenant's records of one kind."""
    return [item.record for item in sent if (item.tenant, item.kind) == (tenant, kind)]


def _evaluation(chance: random.Random, tenant: str, number: int) -> Record:
    # Some days stay empty, so that windows by date and windows by row differ.
    day = chance.choice([day for day in range(DAYS) if day % 7 != 3])
    record: Record = {
        "record_id": f"r{number}",
        "evaluation_id": _evaluation_id(tenant, number),
        "template": chance.choice(TEMPLATES),
        "extractor_vendor": chance.choice(["x", "x|y"]),
        "extractor_model": chance.choice(["m1", "y|m1"]),
        "drift_score": chance.choice([None, 0.1 + 0.2, 1.0, 0.0, 5e-324, chance.random(), chance.random()]),
        "reliability_score": chance.choice([None, chance.random()]),
        "decision": chance.choice([None, "accept", "review", "reject"]),
        "created_at": (FIRST_DAY + timedelta(days=day, seconds=chance.randrange(86_400))).isoformat(),
        "score": 1.0,
        "batch_key": chance.choice([None, *BATCH_KEYS][:3]),
        "features": chance.choice([None, {"pages": chance.randrange(9), "blurred": True, "note": "text", "dpi": None}]),
    }
    if chance.random() < 0.2:
        record |= _judgement(chance)
    if chance.random() < 0.7:
        record |= _choice(chance, tenant, record)
    return {name: value for name, value in record.items() if value is not None}


def _choice(chance: random.Random, tenant: str, record: Record) -> Record:
    """How the extractor was chosen: by its share, by another snapshot's, by none, and from among others."""
    own = f"{record['extractor_vendor']}/{record['extractor_model']}"
    snapshots = [snapshot_id(tenant, record["template"]), snapshot_id(tenant, "invoice"), str(uuid.UUID(int=7))]
    return {
        "propensity": chance.choice([None, 0.25, 0.5, 0.1 + 0.2, 1e-10, 1 - chance.random()]),
        "assigned_by": chance.choice([None, "share", "share", "override", "fallback", "retry"]),
        "snapshot_id": chance.choice([None, *snapshots]),
        "eligible_extractors": chance.choice([None, [own], sorted({own, "x/m1", "z/new/1"})]),
        "cost_usd": chance.choice([None, chance.randrange(10**6) / 10**9]),
        "latency_ms": chance.choice([None, chance.randrange(10**6) / 100]),
    }


def _feedback(chance: random.Random, tenant: str, number: int, evaluations: int) -> Record:
    """Of which some corrects earlier feedback, some is about evaluations that never land, and some before them."""
    about = chance.randrange(int(evaluations * 1.1))
    named = chance.choice([{"record_id": f"r{about}"}, {"evaluation_id": _evaluation_id(tenant, about)}])
    at = FIRST_DAY + timedelta(days=chance.choice([5, 45, 45, 45]), seconds=number)
    return _judgement(chance) | named | {"feedback_key": f"f{number}", "created_at": at.isoformat()}


def _evaluation_id(tenant: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{tenant}/{number}"))


def _judgement(chance: random.Random) -> Record:
    total = chance.randrange(1, 9)
    counted = {"fields_correct": chance.choice([total, chance.randrange(total + 1)]), "fields_total": total}
    said = {"success": chance.random() < 0.7}
    return chance.choice([said, counted, said | counted])
