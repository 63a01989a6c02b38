"""One picture of posterior densities, for a few templates.

Belongs here: drawing. Does not belong here: choosing whom to draw (assets.py).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.figures import grid
from assets.selection.tables import Arm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RATES = np.linspace(0.0005, 0.9995, 2000)


def density_figure(templates: Sequence[Sequence[Arm]]) -> "Figure":
    """A panel a template: one density an extractor over the success rate, labelled with its P(best)."""
    figure, panels = grid(len(templates), "Success rate of each extractor: posterior density")
    for panel, arms in zip(panels, templates, strict=True):
        _panel(panel, arms)
    return figure


def _panel(panel: Any, arms: Sequence[Arm]) -> None:
    from scipy import stats

    shown = _RATES[(min(arm.lower for arm in arms) - 0.1 < _RATES) & (max(arm.upper for arm in arms) + 0.1 > _RATES)]
    for arm in sorted(arms, key=lambda arm: -arm.p_best):
        density = stats.beta.pdf(shown, arm.alpha, arm.beta)
        label = f"{arm.extractor_model[:30]}  P(best) {arm.p_best:.2f}"
        (line,) = panel.plot(shown, density, linewidth=1.3, label=label)
        panel.fill_between(shown, density, alpha=0.15, color=line.get_color(), linewidth=0)
    panel.set_title(f"{arms[0].tenant_id} · {arms[0].template[:50]}", fontsize=9, loc="left")
    panel.set_yticks([])
    panel.set_ylim(bottom=0)
    panel.tick_params(labelsize=7)
    panel.legend(fontsize=7, frameon=False, loc="upper left")
