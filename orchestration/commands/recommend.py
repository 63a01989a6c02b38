"""`tidemark recommend`: which extractor a template should use, and how sure that is."""

import random
from typing import Annotated

import typer

from assets.selection.published import read_recommendation
from assets.selection.recommend import Mode, choose, unit_of
from orchestration.commands.shared import JsonOption, TenantOption, console, print_json, show, transaction
from storage.errors import UsageError
from storage.tenants import require_tenant


def recommend(
    tenant: TenantOption,
    template: Annotated[str, typer.Option("--template", help="The template to choose an extractor for.")],
    mode: Annotated[Mode, typer.Option(help="The recommended one, or one by its share.")] = "best",
    key: Annotated[
        str | None, typer.Option(help="Of --mode sample: what is decided about; a key always gets the same extractor.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of --mode sample without a key: repeats a draw.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend an extractor for a template, from what the last refresh learnt."""
    if key is not None and seed is not None:
        raise UsageError("--key decides by the key and --seed by a draw: give one of them")
    if mode == "best" and not (key is None and seed is None):
        raise UsageError("--key and --seed decide about shares: add --mode sample, or leave them out")
    with transaction() as (_, connection):
        require_tenant(connection, tenant)
        found = read_recommendation(connection, tenant, template)
    # A draw that --seed repeats, not a secret.
    unit = random.Random(seed).random() if key is None else unit_of(found, key)  # noqa: S311
    choice = choose(found, mode, unit)
    if as_json:
        print_json({"tenant": tenant, "template": template, "mode": mode, "key": key} | choice.as_dict(found))
        return
    share = f": its share is {choice.propensity:.3f}" if choice.assigned_by == "share" else ""
    console.print(f"Use {choice.arm.extractor} for {template}{share}.", markup=False, highlight=False)
    console.print(f"{found.decision}: {found.reason}", markup=False, highlight=False)
    show(
        [
            {
                "extractor": str(arm.extractor),
                "mean": f"{arm.mean:.3f}",
                "95 % interval": f"{arm.lower:.3f} - {arm.upper:.3f}",
                "P(best)": f"{arm.p_best:.3f}",
                "share": f"{arm.share:.3f}",
                "n": arm.feedback_count,
            }
            for arm in found.arms
        ],
        as_json=False,
    )
