"""One dbt command in this process: its address by environment, its files in a folder of its own, its end as a value.

dbt's command line spends seconds on starting; `dbtRunner` with a kept manifest starts at once.

Belongs here: calling dbt. Does not belong here: anything of Dagster, and what to do about a failure.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.errors import TidemarkError
from storage.garbage import rare_garbage_collection
from storage.postgres_url import PostgresUrl

APPLICATION = "tidemark-dbt"
_BAD = frozenset({"error", "fail", "runtime error", "partial success"})
# dbt keeps flags, adapters and its event manager in module globals, and the address travels by environment:
# two commands at once in one process would read each other's.
_ONE_AT_A_TIME = threading.Lock()
_LIBPQ = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"}


class DbtFailedError(TidemarkError):
    """dbt could not do what it was asked; the message holds dbt's own."""


@dataclass(frozen=True)
class Outcome:
    """How a dbt command ended."""

    statuses: Mapping[str, str] = field(default_factory=dict)
    """`unique_id` to dbt's status (`success`, `pass`, `fail`, `error`, `skipped`, …)."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """`unique_id` to dbt's message, for what failed."""
    error: str | None = None
    """Why the command as a whole could not run; None where it ran, be it with problems."""

    def built_models(self) -> list[str]:
        """The names of the models that were built."""
        return [
            unique_id.rsplit(".", 1)[-1]
            for unique_id, status in self.statuses.items()
            if unique_id.startswith("model.") and status == "success"
        ]


def invoke_dbt(
    args: Sequence[str],
    url: PostgresUrl,
    *,
    target_path: Path,
    project_dir: Path,
    packed_manifest: bytes | None = None,
    on_event: Callable[[Any], None] | None = None,
    application: str = APPLICATION,
    variables: Mapping[str, str] | None = None,
) -> Outcome:
    """Run one dbt command here and now.

    Args:
        args: as after `dbt` on a command line, for example `["build", "--select", "marts"]`.
        url: the database.
        target_path: where dbt may write its files.
        project_dir: the folder of `dbt_project.yml`.
        packed_manifest: a manifest in dbt's own format; the project is parsed where it is None.
        on_event: called with each of dbt's events (a protobuf message) in dbt's threads.
        application: by which name its connections are known to PostgreSQL.
        variables: what the project's macros ask the environment for.
    """
    with _ONE_AT_A_TIME, _environment({**_address(url, application), **(variables or {})}), rare_garbage_collection():
        from dbt.cli.main import dbtRunner
        from dbt.contracts.graph.manifest import Manifest

        # Unpacked for each command: dbt writes what it compiled into the manifest that it is given.
        manifest = None if packed_manifest is None else Manifest.from_msgpack(packed_manifest)
        runner = dbtRunner(manifest=manifest, callbacks=[] if on_event is None else [on_event])
        with tempfile.TemporaryDirectory(prefix="tidemark-dbt-") as logs:
            result = runner.invoke([*args, *_options(args[0], target_path, Path(logs), project_dir)])
    return _outcome(result)


def _options(command: str, target_path: Path, logs: Path, project_dir: Path) -> list[str]:
    folders = {
        "--project-dir": project_dir,
        "--profiles-dir": project_dir,
        "--target-path": target_path,
        "--log-path": logs,
    }
    options = [text for name, path in folders.items() for text in (name, str(path))]
    quiet = ["--log-level", "none", "--log-level-file", "none", "--no-send-anonymous-usage-stats"]
    # What parsing and documenting write is what they are for; after any other command nobody reads dbt's files.
    return [*options, *quiet, *([] if command in ("parse", "docs") else ["--no-write-json"])]


def _address(url: PostgresUrl, application: str) -> dict[str, str]:
    options = dict(url.options)
    return {
        "TIDEMARK_DBT_HOST": url.host,
        "TIDEMARK_DBT_PORT": str(url.port),
        "TIDEMARK_DBT_USER": url.user,
        "DBT_ENV_SECRET_TIDEMARK_PASSWORD": url.password,
        "TIDEMARK_DBT_DBNAME": url.database,
        "TIDEMARK_DBT_APPLICATION": application,
        **{variable: options[name] for name, variable in _LIBPQ.items() if name in options},
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _outcome(result: Any) -> Outcome:
    if result.exception is not None:
        return Outcome(error=str(result.exception).strip() or type(result.exception).__name__)
    ended = [(item.node.unique_id, str(item.status), item.message) for item in getattr(result.result, "results", ())]
    statuses = {unique_id: status for unique_id, status, _ in ended}
    problems = {unique_id: (message or status).strip() for unique_id, status, message in ended if status in _BAD}
    # A failed on-run hook leaves no result of its own.
    error = "dbt reports a failure without naming what failed" if not result.success and not problems else None
    return Outcome(statuses, problems, error)
