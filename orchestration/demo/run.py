"""The demo: the main job end to end, on real parts, from files to verified webhooks.

Belongs here: the order of the steps and the judgement whether each did its work. Does not belong here: any shortcut;
each step calls what a user's command calls.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from assets.evaluations.columns import parse_mapping
from assets.evaluations.push import PushReport, push_file
from assets.evaluations.verdicts import Kind
from orchestration.demo.deliveries import Delivered, DemoWebhooks
from orchestration.demo.landed import landed_last_day
from orchestration.demo.planted import PLANTED, Fact, Finding
from orchestration.demo.real_log import TENANT_ID as REAL_LOG_TENANT
from orchestration.demo.real_log import TENANT_NAME as REAL_LOG_NAME
from orchestration.demo.real_log import convert_real_log
from orchestration.demo.receiver import Receiver
from orchestration.demo.sample import Sample, generate, write
from orchestration.demo.scenario import TENANTS
from orchestration.platform import Platform
from orchestration.refresh_in_process import refresh_alert_marts, refresh_in_process
from sensors.alerts.scan import scan
from storage.database import Connection
from storage.tenants import create_tenant

REAL_LOG_RECORDS = 316
LOOPBACK = (ip_network("127.0.0.0/8"),)

Step = Callable[[str], None]


@dataclass
class DemoReport:
    """What the demo did, part by part, what is wrong with it, and what is not its own to judge."""

    landed: dict[str, PushReport] = field(default_factory=dict)
    refresh: dict[str, Any] = field(default_factory=dict)
    alerts: dict[str, int] = field(default_factory=dict)
    webhooks: Delivered = field(default_factory=Delivered)
    findings: list[tuple[Fact, Finding]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def check(self, holds: bool, problem: str) -> None:
        """Note a problem unless `holds`."""
        if not holds:
            self.problems.append(problem)


def run_demo(opened: Platform, step: Step) -> DemoReport:
    """Run the main job; repeatable, because everything in it is idempotent.

    Args:
        opened: the deployment.
        step: told what begins.
    """
    # The receiver is on this machine, where a deployment's webhooks may not go unless it says so.
    opened = replace(opened, settings=opened.settings.model_copy(update={"webhook_allowed_networks": LOOPBACK}))
    report = DemoReport()
    with opened.database.connect(autocommit=True) as connection, Receiver() as receiver:
        sample = _sample(connection, opened)
        webhooks = _prepare(connection, opened, sample, receiver, step)
        _land(connection, opened, sample, report, step)
        step("Holding what has landed against the thresholds")
        _scan_all(connection, opened)
        step("Refreshing the asset graph: Great Expectations, dbt, Prophet, posteriors (the longest step)")
        report.refresh = refresh_in_process(opened, nightly=True)
        step("Holding the forecasts' findings against the thresholds")
        _scan_all(connection, opened)
        refresh_alert_marts(opened)
        step("Delivering signed webhooks")
        report.webhooks = sent = webhooks.deliver()
        report.check(sent.delivered > 0, "no webhook was delivered")
        report.check(sent.failed == 0, f"{sent.failed} webhooks were not accepted")
        report.check(sent.delivered == sent.verified, f"{sent.verified} of {sent.delivered} webhooks were verified")
        step("Comparing what was found with what was planted")
        _judge(connection, sample, report)
    return report


def _sample(connection: Connection, opened: Platform) -> Sample:
    yesterday = opened.clock.now().date() - timedelta(days=1)
    return generate(landed_last_day(connection) or yesterday)


def _prepare(connection: Connection, opened: Platform, sample: Sample, receiver: Receiver, step: Step) -> DemoWebhooks:
    step("Creating tenants and their webhooks")
    for tenant in sample.tenants:
        create_tenant(connection, tenant.tenant_id, tenant.name)
    create_tenant(connection, REAL_LOG_TENANT, REAL_LOG_NAME)
    webhooks = DemoWebhooks(connection, opened, receiver, [tenant.tenant_id for tenant in sample.tenants])
    webhooks.register()
    return webhooks


def _land(connection: Connection, opened: Platform, sample: Sample, report: DemoReport, step: Step) -> None:
    folder = opened.settings.home / "demo"
    for path in write(sample, folder):
        kind: Kind = "feedback" if path.stem == "feedback" else "evaluations"
        step(f"Landing {path.parent.name}/{path.name}")
        report.landed[f"{path.parent.name}/{path.name}"] = push_file(
            connection, path.parent.name, kind, path, clock=opened.clock, door="demo"
        )
    step(f"Landing the real log: {REAL_LOG_RECORDS} benchmark runs of language models")
    real, mapping = convert_real_log(folder)
    report.landed[f"{REAL_LOG_TENANT}/{Path(real).name}"] = push_file(
        connection,
        REAL_LOG_TENANT,
        "evaluations",
        real,
        clock=opened.clock,
        mapping=parse_mapping(mapping),
        door="demo",
    )
    log = report.landed[f"{REAL_LOG_TENANT}/{Path(real).name}"]
    report.check(
        log.accepted + log.duplicates == REAL_LOG_RECORDS, f"the real log landed {log.accepted} of {REAL_LOG_RECORDS}"
    )
    wanted = sum(len(tenant.evaluations) + len(tenant.feedback) for tenant in sample.tenants)
    judged = sum(part.records for part in report.landed.values()) - log.records
    report.check(judged == wanted, f"{judged} of {wanted} lines of the sample got a verdict")


def _scan_all(connection: Connection, opened: Platform) -> None:
    while scan(connection, opened.clock.now()).more:
        pass


def _judge(connection: Connection, sample: Sample, report: DemoReport) -> None:
    report.findings = [(fact, fact.find(connection, sample)) for fact in PLANTED]
    for fact, finding in report.findings:
        report.check(finding.found, f"not found: {fact.name}")
    for event_type, count in connection.execute(
        "select event_type, count(*) from marts.recent_alerts where tenant_id like 'demo-%' group by 1 order by 1"
    ):
        report.alerts[event_type] = count
    report.check(bool(report.alerts), "the mart recent_alerts is empty")
    judge_checks(connection, report)


def judge_checks(connection: Connection, report: DemoReport) -> None:
    """Checks look at all tenants' data: where there are others, a warning may well be about what those have sent."""
    own = [*(tenant.tenant_id for tenant in TENANTS), REAL_LOG_TENANT]
    row = connection.execute("select exists (select from access.tenants where tenant_id <> all(%s))", (own,)).fetchone()
    tolerated = report.refresh.get("warnings", []) if row and row[0] else []
    for failed in report.refresh.get("failed", []):
        if failed in tolerated:
            report.notes.append(f"a warning about all tenants, not only the demo's, and no failure of it: {failed}")
        else:
            report.problems.append(f"an asset check failed: {failed}")
