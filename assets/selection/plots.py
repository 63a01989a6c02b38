"""One picture of posterior densities, for a few templates.

Belongs here: drawing. Does not belong here: choosing whom to draw (assets.py).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.figures import grid
from assets.selection.snapshots import TemplatePosteriors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RATES = np.linspace(0.0005, 0.9995, 2000)
_NAMES = {"success": "success rate", "fields": "field accuracy"}


def density_figure(templates: Sequence[TemplatePosteriors]) -> "Figure":
    """A panel a template: one density an extractor over its objective, labelled with its mean."""
    figure, panels = grid(len(templates), "Objective of each extractor: posterior density")
    for panel, known in zip(panels, templates, strict=True):
        _panel(panel, known)
    return figure


def _panel(panel: Any, known: TemplatePosteriors) -> None:
    from scipy import stats

    arms = known.arms
    shown = _RATES[(min(arm.lower for arm in arms) - 0.1 < _RATES) & (max(arm.upper for arm in arms) + 0.1 > _RATES)]
    for arm in sorted(arms, key=lambda arm: -arm.mean):
        density = stats.beta.pdf(shown, arm.alpha, arm.beta)
        label = f"{str(arm.extractor)[:40]}  {arm.mean:.3f}"
        (line,) = panel.plot(shown, density, linewidth=1.3, label=label)
        panel.fill_between(shown, density, alpha=0.15, color=line.get_color(), linewidth=0)
    panel.set_title(f"{known.tenant_id} · {known.template[:50]} · {_NAMES[known.objective]}", fontsize=9, loc="left")
    panel.set_yticks([])
    panel.set_ylim(bottom=0)
    panel.tick_params(labelsize=7)
    panel.legend(fontsize=7, frameon=False, loc="upper left")
