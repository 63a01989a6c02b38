"""The cast of the sample: tenants, their templates, the extractors, and what goes wrong where and when.

Belongs here: constants that the generator (`sample`) follows and the findings (`planted`) are compared with.
Does not belong here: random numbers, files, questions to the database.

Days are counted back from the sample's last day: 0 is the last day itself, 119 the first.
"""

from dataclasses import dataclass

DAYS = 120


@dataclass(frozen=True, slots=True)
class Extractor:
    """A vendor's model: how often its result is right, and how reliable it says it is (both in [0, 1])."""

    vendor: str
    model: str
    success_rate: float
    reliability: float


PAGEWISE = Extractor("pagewise", "pagewise-extract-4", 0.93, 0.93)
TESSEL = Extractor("tessel", "tessel-vision-large", 0.95, 0.94)
QUILLON = Extractor("quillon", "quillon-7b-doc", 0.91, 0.92)
LEXORA_OLD = Extractor("lexora", "lexora-doc-2", 0.95, 0.95)
LEXORA_NEW = Extractor("lexora", "lexora-doc-3", 0.70, 0.88)

# Who extracts, and with what probability one is chosen (sent as `propensity`).
_THREE = ((PAGEWISE, 0.4), (TESSEL, 0.35), (QUILLON, 0.25))
_WITH_LEXORA = ((LEXORA_OLD, 0.4), (PAGEWISE, 0.3), (TESSEL, 0.3))


@dataclass(frozen=True, slots=True)
class Template:
    """A document template of a tenant.

    Attributes:
        name: what records call it.
        drift: its usual daily mean of drift_score.
        pages: the usual number of pages.
        extractors: who extracts it, with probabilities that add up to 1.
        first_day: days before the last day on which it first appears.
    """

    name: str
    drift: float
    pages: int
    extractors: tuple[tuple[Extractor, float], ...] = _THREE
    first_day: int = DAYS - 1


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant of the sample."""

    tenant_id: str
    name: str
    templates: tuple[Template, ...]


NORTHWIND = "demo-northwind-insurance"
ALDER = "demo-alder-logistics"
MERIDIAN = "demo-meridian-bank"

# A template that first appears four days before the last day.
NEW_TEMPLATE = (MERIDIAN, "identity-document")
NEW_TEMPLATE_FIRST_DAY = 4

TENANTS = (
    Tenant(
        NORTHWIND,
        "Northwind Insurance (demo)",
        (
            Template("claim-form", 0.13, 4),
            Template("medical-invoice", 0.12, 2, _WITH_LEXORA),
            Template("police-report", 0.15, 6),
            Template("policy-renewal", 0.11, 3, _WITH_LEXORA),
        ),
    ),
    Tenant(
        ALDER,
        "Alder Logistics (demo)",
        (
            Template("freight-invoice", 0.12, 2),
            Template("bill-of-lading", 0.14, 1, _WITH_LEXORA),
            Template("customs-declaration", 0.16, 3, _WITH_LEXORA),
            Template("delivery-note", 0.12, 1),
        ),
    ),
    Tenant(
        MERIDIAN,
        "Meridian Bank (demo)",
        (
            Template("loan-application", 0.13, 8, _WITH_LEXORA),
            Template("payslip", 0.12, 1),
            Template("bank-statement", 0.11, 5, _WITH_LEXORA),
            Template(NEW_TEMPLATE[1], 0.14, 1, first_day=NEW_TEMPLATE_FIRST_DAY),
        ),
    ),
)

# A scanner is replaced: daily mean drift jumps on the last two days, and the scans have half the resolution.
SUDDEN_DRIFT = (ALDER, "freight-invoice")
SUDDEN_DRIFT_DAYS = 2
SUDDEN_DRIFT_MEAN = 0.38

# A new payroll provider spreads: drift climbs by so much over the last forty days, no single day looks abnormal.
SLOW_DRIFT = (MERIDIAN, "payslip")
SLOW_DRIFT_DAYS = 40
SLOW_DRIFT_RISE = 0.09

# Lexora replaces its model everywhere; on two templates the new one is also unsure of itself.
NEW_MODEL_DAYS = 30
UNSURE_TEMPLATES = ((NORTHWIND, "medical-invoice"), (ALDER, "customs-declaration"))
UNSURE_RELIABILITY = 0.77

# One afternoon a broken exporter sends lines that are no records.
BAD_BURST_TENANT = NORTHWIND
BAD_BURST_DAY = 3

# A day after a template's day (so many before the last), a retrying sender repeats some of its records, and a re-run
# pipeline sends others with other results under the same record_id.
SENT_AGAIN = (MERIDIAN, "bank-statement", 12)
REPEATED_COUNT = 5
CONTRADICTED_COUNT = 3
OTHER_CONTENT: dict[str, object] = {"drift_score": 0.2, "reliability_score": 0.9}

# One template's records of one day arrive three days late, behind newer ones.
LATE_BATCH = (NORTHWIND, "claim-form")
LATE_BATCH_DAY = 20
LATE_BATCH_DELAY = 3

# Now and then a document is hard to read, and goes to review or is rejected. None in the last days, so that whatever
# alerts there is planted on purpose.
HARD_DOCUMENT_RATE = 0.015
LAST_HARD_DOCUMENT_DAY = 10
