"""By which definition each model was made: one that has changed since is made anew, without being asked.

An increment can't be added to a table whose columns or calculations were others. So each model's digest is kept beside
its marks, and is forgotten before a rebuild begins: one that is killed half-way begins again at the next build. Models
that stand as described need neither comments nor views written again.

Belongs here: digests and what follows from them. Does not belong here: running dbt (`build`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

from storage.database import Connection

_READ = "select model, digest, described_as from intermediate.definitions"
_FORGET = "delete from intermediate.definitions where model = any(%(models)s)"
_WRITE = """
insert into intermediate.definitions (model, digest, described_as)
select * from unnest(%(models)s::text[], %(digests)s::text[], %(descriptions)s::text[])
on conflict (model) do update set digest = excluded.digest, described_as = excluded.described_as
"""
# What keeps increments and what can only be made from all of them: one made anew without the others would lose some.
_CHAIN = frozenset({"int_feedback_versions", "int_evaluation_deltas", "int_evaluations_daily"})
# What adds the increments up as well: it would add some twice.
_CHAIN_END = frozenset({"int_extractor_totals", "int_outcomes_daily"})


@dataclass(frozen=True)
class Definition:
    """What a model is: hashes of what it calculates and of what is said about it."""

    digest: str
    described_as: str
    is_incremental: bool
    parents: frozenset[str]
    """The models that it is made from, but for those that are never made anew."""


def definitions_of(manifest: Mapping[str, Any]) -> dict[str, Definition]:
    """Each model's definition: its SQL, its contract, the project's macros, and the definitions of what it reads.

    What its descriptions say is apart from these.
    """
    project = manifest["metadata"]["project_name"]
    macros = _hash(
        macro["macro_sql"] for _, macro in sorted(manifest["macros"].items()) if macro["package_name"] == project
    )
    models = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}

    def parents(node: Mapping[str, Any]) -> list[str]:
        # What is never made anew (dimensions among it, to which foreign keys point) restates nothing.
        return [
            key
            for key in sorted(node["depends_on"]["nodes"])
            if key in models and models[key]["config"].get("full_refresh") is not False
        ]

    @cache
    def digest(unique_id: str) -> str:
        node = models[unique_id]
        own = (macros, node["checksum"]["checksum"], str(node["contract"]["checksum"]))
        return _hash((*own, *map(digest, parents(node))))

    return {
        node["name"]: Definition(
            digest(unique_id),
            _hash((node["description"], *(column["description"] for column in node["columns"].values()))),
            node["config"]["materialized"] == "incremental",
            frozenset(models[key]["name"] for key in parents(node)),
        )
        for unique_id, node in models.items()
    }


def _hash(parts: Iterable[str]) -> str:
    digest = blake2b(digest_size=12)
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def stale_models(connection: Connection, defined: Mapping[str, Definition]) -> set[str]:
    """The incremental models that were never made, or by another definition."""
    made = {model: digest for model, digest, _ in connection.execute(_READ)}
    return {model for model, now in defined.items() if now.is_incremental and made.get(model) != now.digest}


def standing_models(connection: Connection, defined: Mapping[str, Definition]) -> set[str]:
    """The models that were made as they are defined and described now."""
    made = {model: stands for model, *stands in connection.execute(_READ)}
    return {model for model, now in defined.items() if made.get(model) == [now.digest, now.described_as]}


def made_anew(stale: set[str]) -> set[str]:
    """What a build makes anew where these models are stale."""
    return stale | _CHAIN | _CHAIN_END if stale & _CHAIN else stale


def forget(connection: Connection, models: Iterable[str]) -> None:
    """Note that these models are about to be made anew."""
    connection.execute(_FORGET, {"models": list(models)})


def remember(connection: Connection, models: Iterable[str], defined: Mapping[str, Definition]) -> None:
    """Note that these models stand as now defined, as far as what they are made from does."""
    built = {model for model in models if model in defined}
    standing = built | standing_models(connection, defined)
    made = sorted(model for model in built if _stands(model, standing, defined))
    columns = {
        "models": made,
        "digests": [defined[model].digest for model in made],
        "descriptions": [defined[model].described_as for model in made],
    }
    connection.execute(_WRITE, columns)


def _stands(model: str, standing: set[str], defined: Mapping[str, Definition]) -> bool:
    return model in standing and all(_stands(parent, standing, defined) for parent in defined[model].parents)
