"""Changes: all days at once, day by day, and the fading of old evidence.

Belongs here: the loop over days and tenants. Does not belong here: what a change is (watch.py), what it is worth
telling whom (decisions.py, sensors).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from assets.selection.evidence import Floats
from assets.selection.watch import THRESHOLD, Changes, Watch

_BATCH_TEMPLATES = 2000  # of whole tenants, to bound memory


def find_changes(
    successes: Floats, failures: Floats, groups: npt.ArrayLike, silent_days: npt.ArrayLike | None = None
) -> Changes:
    """Changes as of each template's last day; each day was judged by itself and the days before it alone.

    Args:
        successes: (pseudo-)counts that were known on their day, shape (templates, arms, days), 0 where no arm is.
        failures: likewise.
        groups: the tenant of each template, shape (templates,).
        silent_days: how many of the days are after a template's last, the same for all of a tenant; none by default.
    """
    _, tenant, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    silent = np.zeros(len(tenant), dtype=np.int64) if silent_days is None else np.asarray(silent_days)
    batch_of_tenant = np.cumsum(sizes) // _BATCH_TEMPLATES
    batch = batch_of_tenant[tenant] if len(sizes) else tenant
    _, batch = np.unique(np.stack([batch, silent]), axis=1, return_inverse=True)
    parts = []
    order = np.argsort(batch, kind="stable")
    for number in np.unique(batch):
        rows = np.flatnonzero(batch == number)
        days = successes.shape[2] - int(silent[rows[0]])
        watch = Watch((len(rows), successes.shape[1]), days, tenant[rows])
        for day in range(days):
            watch.step(successes[rows, :, day], failures[rows, :, day])
        changes = watch.changes()
        after = np.zeros((*changes.void.shape[:2], successes.shape[2] - days), dtype=bool)
        parts.append(replace(changes, void=np.concatenate([changes.void, after], axis=2)))
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
