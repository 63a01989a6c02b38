"""Changes: all days at once, day by day, and the fading of old evidence.

Belongs here: the loop over days and tenants. Does not belong here: what a change is (watch.py), what it is worth
telling whom (decisions.py, sensors).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from assets.selection.evidence import Floats
from assets.selection.watch import THRESHOLD, Changes, Watch

_BATCH_TEMPLATES = 2000  # of whole tenants, to bound memory


def find_changes(successes: Floats, failures: Floats, groups: npt.ArrayLike) -> Changes:
    """Changes as of the last day; each day was judged by itself and the days before it alone.

    Args:
        successes: (pseudo-)counts that were known on their day, shape (templates, arms, days), 0 where no arm is.
        failures: likewise.
        groups: the tenant of each template, shape (templates,).
    """
    _, tenant, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    batch_of_tenant = np.cumsum(sizes) // _BATCH_TEMPLATES
    batch = batch_of_tenant[tenant] if len(sizes) else tenant
    parts = []
    order = np.argsort(batch, kind="stable")
    for number in np.unique(batch):
        rows = np.flatnonzero(batch == number)
        watch = Watch((len(rows), successes.shape[1]), successes.shape[2], tenant[rows])
        for day in range(successes.shape[2]):
            watch.step(successes[rows, :, day], failures[rows, :, day])
        parts.append(watch.changes())
    if not parts:
        return Watch((0, successes.shape[1]), 0, tenant).changes()
    place = np.argsort(order, kind="stable")

    def joined(name: str) -> npt.NDArray[Any]:
        return np.asarray(np.concatenate([getattr(part, name) for part in parts])[place])

    return Changes(
        restart_day=joined("restart_day"),
        alarm_day=joined("alarm_day"),
        statistic=joined("statistic"),
        threshold=THRESHOLD,
        rate_before=joined("rate_before"),
        rate_after=joined("rate_after"),
        count_before=joined("count_before"),
        count_after=joined("count_after"),
        void=joined("void"),
    )


def fading(days: int, half_life: float) -> Floats:
    """What a day's evidence still weighs after the last of so many days, oldest first; 1 for the last."""
    return np.asarray(0.5 ** (np.arange(days)[::-1] / half_life))
