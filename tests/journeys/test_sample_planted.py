"""What is planted in the sample's files is found in `raw` once they have landed, in the same words however often."""

from datetime import date
from pathlib import Path

from assets.evaluations.push import push_file
from orchestration.demo.landed import landed_last_day
from orchestration.demo.planted import PLANTED, Finding
from orchestration.demo.sample import Sample, generate, write
from storage.clock import Clock
from storage.database import Connection
from storage.tenants import create_tenant

LAST_DAY = date(2026, 6, 30)
# The other facts need the marts, the models and the alerts: the demo's own journey looks for them.
IN_RAW = ("bad records", "duplicates", "contradictions")


def find(connection: Connection, sample: Sample) -> dict[str, Finding]:
    return {fact.name: fact.find(connection, sample) for fact in PLANTED if fact.name in IN_RAW}


def land(connection: Connection, sample: Sample, folder: Path) -> None:
    for path in write(sample, folder):
        kind = "evaluations" if path.stem == "evaluations" else "feedback"
        push_file(connection, path.parent.name, kind, path, clock=Clock())


def test_landed_facts_are_found_after_landing_and_in_the_same_words_after_landing_again(
    connection: Connection, tmp_path: Path
) -> None:
    sample = generate(LAST_DAY)
    for tenant in sample.tenants:
        create_tenant(connection, tenant.tenant_id, tenant.name)
    assert [finding.found for finding in find(connection, sample).values()] == [False, False, False]
    assert landed_last_day(connection) is None

    land(connection, sample, tmp_path)
    first = find(connection, sample)
    assert [finding.found for finding in first.values()] == [True, True, True]
    assert landed_last_day(connection) == LAST_DAY
    orphans = connection.execute(
        "select count(*) from raw.feedback where record_key not in (select record_key from raw.evaluation_keys)"
    ).fetchone()
    assert orphans == (0,)

    land(connection, sample, tmp_path)
    assert find(connection, sample) == first
