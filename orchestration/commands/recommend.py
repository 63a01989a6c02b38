"""`tidemark recommend`: which extractor a template should use, and how sure that is."""

from typing import Annotated

import typer

from assets.selection.recommend import Mode
from assets.selection.recommend import recommend as choose
from orchestration.commands.shared import JsonOption, TenantOption, console, print_json, show, transaction
from storage.tenants import require_tenant


def recommend(
    tenant: TenantOption,
    template: Annotated[str, typer.Option("--template", help="The template to choose an extractor for.")],
    mode: Annotated[Mode, typer.Option(help="The probable best, or a draw by Thompson sampling.")] = "best",
    seed: Annotated[int | None, typer.Option(min=0, help="Makes the draw of --mode sample repeatable.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend an extractor for a template, from the posteriors of the last refresh."""
    import numpy as np

    from assets.selection.tables import read_template

    with transaction() as (_, connection):
        require_tenant(connection, tenant)
        rows = read_template(connection, tenant, template)
    found = choose(rows, mode, np.random.default_rng(seed) if mode == "sample" else None)
    if as_json:
        print_json({"tenant": tenant, "template": template, "mode": mode} | found.as_dict())
        return
    chosen = f"{found.chosen.extractor_vendor}/{found.chosen.extractor_model}"
    console.print(f"Use {chosen} for {template} (chosen with probability {found.propensity:.3f}).", markup=False)
    show(
        [
            {
                "extractor": f"{arm.extractor_vendor}/{arm.extractor_model}",
                "mean": f"{arm.mean:.3f}",
                "95 % interval": f"{arm.lower:.3f} - {arm.upper:.3f}",
                "P(best)": f"{arm.p_best:.3f}",
                "n": arm.feedback_count,
            }
            for arm in found.arms
        ],
        as_json=False,
    )
