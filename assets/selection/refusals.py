"""Templates of which nothing new is said, because numbers about them can't be; what was said before stays.

Belongs here: naming them. Does not belong here: what can't be (`evidence`, `policy_value`), keeping what was said
(`snapshots`, `findings`).
"""

from collections.abc import Iterable
from datetime import date
from typing import NamedTuple
from uuid import UUID

from assets.selection.policies import Extractor

REMEDY = (
    "What was known of it stays, all other templates go on. These sums are of raw records: make them anew with "
    "tidemark refresh --full, and see who writes to marts.extractor_performance_daily"
)


class Refused(NamedTuple):
    """One template and the first number about it that can't be; `day` is None for a sum over many days."""

    tenant_id: str
    template_id: UUID
    template: str
    extractor: Extractor
    day: date | None
    field: str
    value: float
    why: str

    def __str__(self) -> str:
        on = f" on {self.day}" if self.day else ""
        return (
            f"{self.template} of {self.tenant_id}, {self.extractor}{on}: {self.field} {self.value:.15g} is impossible, "
            f"{self.why}"
        )


def whose(refused: Iterable[Refused]) -> set[tuple[str, UUID]]:
    """Tenant and template of each."""
    return {(each.tenant_id, each.template_id) for each in refused}
