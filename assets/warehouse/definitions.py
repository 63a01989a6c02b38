"""By which definition each incremental model was made: one that has changed since is made anew, without being asked.

An increment can't be added to a table whose columns or calculations were others. So each model's digest is kept beside
its marks, and is forgotten before a rebuild begins: one that is killed half-way begins again at the next build.

Belongs here: digests and what follows from them. Does not belong here: running dbt (`build`).
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from storage.database import Connection

_READ = "select model, digest from intermediate.definitions"
_FORGET = "delete from intermediate.definitions where model = any(%(models)s)"
_WRITE = """
insert into intermediate.definitions (model, digest)
select * from unnest(%(models)s::text[], %(digests)s::text[])
on conflict (model) do update set digest = excluded.digest
"""


def digests_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """A digest of what makes each incremental model: its SQL, its contract and the project's macros."""
    macros = blake2b(digest_size=12)
    for _, macro in sorted(manifest["macros"].items()):
        if macro["package_name"] == manifest["metadata"]["project_name"]:
            macros.update(macro["macro_sql"].encode() + b"\0")
    return {
        node["name"]: blake2b(
            f"{macros.hexdigest()}\0{node['checksum']['checksum']}\0{node['contract']['checksum']}".encode(),
            digest_size=12,
        ).hexdigest()
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["config"]["materialized"] == "incremental"
    }


def stale_models(connection: Connection, digests: Mapping[str, str]) -> set[str]:
    """The models that were never made, or by another definition."""
    made_by: dict[str, str] = dict(connection.execute(_READ).fetchall())
    return {model for model, digest in digests.items() if made_by.get(model) != digest}


def forget(connection: Connection, models: Iterable[str]) -> None:
    """Note that these models are about to be made anew."""
    connection.execute(_FORGET, {"models": list(models)})


def remember(connection: Connection, models: Iterable[str], digests: Mapping[str, str]) -> None:
    """Note that these models stand as now defined."""
    made = [model for model in models if model in digests]
    connection.execute(_WRITE, {"models": made, "digests": [digests[model] for model in made]})
