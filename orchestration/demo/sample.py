"""The sample: 120 days of evaluations and feedback of three tenants, as the files that their pipelines would send.

Belongs here: a pure function from (last day, seed) to bytes, and writing them. Does not belong here: landing them, or
the clock: the same last day makes the same bytes, so that pushing them again changes nothing.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from random import Random

from orchestration.demo import scenario
from orchestration.demo.bad_lines import BadLine, bad_lines
from orchestration.demo.scenario import Template, Tenant
from orchestration.demo.template_day import Record, later_feedback, ndjson_line, rfc3339, template_day

SEED = 20


@dataclass(frozen=True, slots=True)
class TenantSample:
    """What one tenant sends.

    Attributes:
        tenant_id: the tenant's slug.
        name: for people.
        evaluations: lines of NDJSON without their line ends, in order of arrival.
        feedback: likewise.
        repeated: record_ids that are sent twice with the same content.
        contradicted: record_ids that are sent again with other content.
        bad: the lines among `evaluations` that are no records.
    """

    tenant_id: str
    name: str
    evaluations: tuple[bytes, ...]
    feedback: tuple[bytes, ...]
    repeated: tuple[str, ...]
    contradicted: tuple[str, ...]
    bad: tuple[BadLine, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """The whole sample and the day it ends on."""

    last_day: date
    tenants: tuple[TenantSample, ...]


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A line and when it arrives: records go by their own time, late and repeated ones behind it."""

    day: date
    created_at: str
    payload: bytes


def generate(last_day: date, seed: int = SEED) -> Sample:
    """Make the sample.

    Args:
        last_day: its newest UTC day; all of it must be in the past, as the contract refuses records from the future.
        seed: another seed makes other random numbers around the same facts, under the same record_ids.
    """
    return Sample(last_day, tuple(_tenant_sample(tenant, last_day, seed) for tenant in scenario.TENANTS))


def write(sample: Sample, folder: Path) -> list[Path]:
    """Write `folder/TENANT/evaluations.ndjson` and `feedback.ndjson` and return their paths, evaluations first."""
    paths = []
    for tenant in sample.tenants:
        own = folder / tenant.tenant_id
        own.mkdir(parents=True, exist_ok=True)
        for name, lines in (("evaluations", tenant.evaluations), ("feedback", tenant.feedback)):
            path = own / f"{name}.ndjson"
            path.write_bytes(b"".join(line + b"\n" for line in lines))
            paths.append(path)
    return paths


def _tenant_sample(tenant: Tenant, last_day: date, seed: int) -> TenantSample:
    arrivals: list[_Arrival] = []
    feedback: list[Record] = []
    sent_again: list[Record] = []
    for template in tenant.templates:
        for ago in range(template.first_day, -1, -1):
            rng = Random(f"{seed}/{tenant.tenant_id}/{template.name}/{ago}")  # noqa: S311 - a sample, not a secret
            day = list(template_day(rng, tenant.tenant_id, template, last_day, ago))
            delay = _delay(tenant, template, ago)
            arrivals += [_arrival(record, delay) for record, _ in day]
            for record, extractor in day:
                feedback += later_feedback(rng, record, extractor, last_day)
            if (tenant.tenant_id, template.name, ago) == scenario.SENT_AGAIN:
                sent_again = [record for record, _ in day]
    repeated = sent_again[: scenario.REPEATED_COUNT]
    contradicted = sent_again[scenario.REPEATED_COUNT :][: scenario.CONTRADICTED_COUNT]
    bad = _bad_burst(tenant, last_day)
    arrivals += [_arrival(record, 1) for record in repeated]
    arrivals += [_arrival(record | scenario.OTHER_CONTENT, 1) for record in contradicted]
    arrivals += [_Arrival(last_day - timedelta(scenario.BAD_BURST_DAY), "", line.payload) for line in bad]
    arrivals.sort(key=lambda arrival: (arrival.day, arrival.created_at, arrival.payload))
    feedback.sort(key=lambda record: (str(record["created_at"]), str(record["record_id"])))
    return TenantSample(
        tenant.tenant_id,
        tenant.name,
        tuple(arrival.payload for arrival in arrivals),
        tuple(ndjson_line(record) for record in feedback),
        tuple(str(record["record_id"]) for record in repeated),
        tuple(str(record["record_id"]) for record in contradicted),
        tuple(bad),
    )


def _bad_burst(tenant: Tenant, last_day: date) -> list[BadLine]:
    if tenant.tenant_id != scenario.BAD_BURST_TENANT:
        return []
    day = last_day - timedelta(scenario.BAD_BURST_DAY)
    good: Record = {
        "template": tenant.templates[0].name,
        "extractor_vendor": scenario.PAGEWISE.vendor,
        "extractor_model": scenario.PAGEWISE.model,
        "drift_score": 0.12,
        "reliability_score": 0.93,
        "created_at": rfc3339(datetime.combine(day, time(9))),
        "features": {"pages": 4},
    }
    return bad_lines(good, day)


def _delay(tenant: Tenant, template: Template, ago: int) -> int:
    late = (tenant.tenant_id, template.name, ago) == (*scenario.LATE_BATCH, scenario.LATE_BATCH_DAY)
    return scenario.LATE_BATCH_DELAY if late else 0


def _arrival(record: Record, delay: int) -> _Arrival:
    created_at = str(record["created_at"])
    return _Arrival(date.fromisoformat(created_at[:10]) + timedelta(delay), created_at, ndjson_line(record))
