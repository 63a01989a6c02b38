"""What is found of extractors beside their posteriors, as rows: priors, changes of quality, values of other choices.

Belongs here: which table holds what. Does not belong here: finding it (`knowledge`, `values`).
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from assets.selection.knowledge import ArmChange, ArmPrior
from assets.selection.values import ArmValue
from assets.whole_table import replace_rows
from storage.database import Connection

_ARM = ("tenant_id", "template_id", "extractor_vendor", "extractor_model")
# Who judges what lands judges changes too, and listens to this.
_CHANNEL = "tidemark_batches"


Kept = Collection[tuple[str, UUID]]


def write_priors(connection: Connection, priors: Sequence[ArmPrior], kept: Kept = ()) -> int:
    """Make ml.extractor_priors hold exactly these rows, and those of the templates (tenant, identifier) in `kept`.

    Returns:
        How many are new, changed or gone.
    """
    return replace_rows(connection, "extractor_priors", _ARM, ArmPrior, priors, kept)


def write_changes(connection: Connection, changes: Sequence[ArmChange], kept: Kept = ()) -> int:
    """The same for ml.extractor_changes, and whoever raises alerts is told to look."""
    count = replace_rows(connection, "extractor_changes", _ARM, ArmChange, changes, kept)
    if count:
        connection.execute("select pg_notify(%s, '')", (_CHANNEL,))
    return count


def write_values(connection: Connection, values: Sequence[ArmValue], kept: Kept = ()) -> int:
    """The same for ml.policy_value."""
    return replace_rows(connection, "policy_value", (*_ARM, "estimator"), ArmValue, values, kept)
