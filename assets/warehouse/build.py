"""dbt runs, for people and for Dagster: with the kept manifest, streaming, and stopped when its caller is.

The events become Dagster's through dagster-dbt's own classes, so that a materialization looks like any dbt project's.
Those classes are not public; tests/warehouse/test_dagster_dbt_contract.py says what is relied on.
"""

import queue
import re
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg

from assets.warehouse.dbt_runner import APPLICATION, DbtFailedError, Outcome, invoke_dbt
from assets.warehouse.definitions import (
    Definition,
    definitions_of,
    forget,
    made_anew,
    remember,
    stale_models,
    standing_models,
)
from assets.warehouse.project import DEFAULT_DATABASE, PROJECT_DIR, kept_manifest
from storage.database import Connection, Database, connect
from storage.errors import DatabaseUnavailableError
from storage.locks import AdvisoryLock
from storage.postgres_url import PostgresUrl

UNIQUE_ID = "dagster_dbt/unique_id"
# A run with this tag makes every model that it selects anew.
FULL_REFRESH_TAG = "tidemark/full_refresh"
DagsterEvent = dg.Output[Any] | dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckResult
_RESULTS = frozenset({"LogModelResult", "LogTestResult", "LogSeedResult", "LogSnapshotResult"})
_ROW_COUNT = re.compile(r"(?:SELECT|INSERT 0|MERGE) (\d+)")
_CANCEL_PAUSE_SECONDS = 0.2
_BUILDING = frozenset({"build", "run"})
_FULL_REFRESH = "--full-refresh"
_LOCK = "select pg_advisory_lock(%(key)s)"
_NAME_CONNECTION = "select set_config('application_name', %(application)s, false)"
_CANCEL = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %(application)s"


def run_dbt(args: Sequence[str], database: Database | None = None, *, project_dir: Path = PROJECT_DIR) -> Outcome:
    """Run one dbt command in this process, for tests and CI: `run_dbt(["build"], database)`.

    Args:
        args: as after `dbt` on a command line.
        database: None for commands that ask no database; `parse` never does, and reads the project anew.
        project_dir: the project.

    Raises:
        DbtFailedError: anything failed; the message holds dbt's own.
    """
    if database is not None and args[0] != "parse":
        outcome = _run(args, database.platform, project_dir)
    else:
        nowhere = PostgresUrl("localhost", 5432, "postgres", "", DEFAULT_DATABASE)
        with tempfile.TemporaryDirectory(prefix="tidemark-dbt-") as target:
            outcome = invoke_dbt(args, nowhere, target_path=Path(target), project_dir=project_dir)
    raise_on_failure(outcome, outcome.problems)
    return outcome


def source_freshness(database: Database) -> Outcome:
    """Ask dbt how long ago records were last received; a status `pass`, `warn` or `error` a source."""
    return _run(["source", "freshness", "--select", "source:raw"], database.platform, PROJECT_DIR)


def raise_on_failure(outcome: Outcome, problems: Mapping[str, str]) -> None:
    """Raise what dbt said about `problems`, if anything.

    Raises:
        DbtFailedError: with the name and dbt's message of each.
    """
    if outcome.error is not None:
        raise DbtFailedError(f"dbt could not run: {outcome.error}")
    if problems:
        told = "\n".join(f"{unique_id}: {message}" for unique_id, message in problems.items())
        raise DbtFailedError(f"dbt failed. Nothing below was replaced; mend it and run again.\n{told}")


def build_selected(
    context: dg.AssetExecutionContext, database: Database, manifest: Mapping[str, Any]
) -> Iterator[DagsterEvent]:
    """Build the models and run the tests that the run selected; yield Dagster's events as dbt finishes each.

    A failed test is a failed asset check, and dbt skips what lies below it.

    Raises:
        DbtFailedError: a model failed, or dbt could not run.
    """
    from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

    translator = _translator_of(context.assets_def)
    outcomes: list[Outcome] = []
    for raw_event in stream_dbt(_selected_args(context, manifest), database.platform, outcomes.append):
        message = DbtCoreCliEventMessage(raw_event=raw_event, event_history_metadata={})
        for event in message.to_default_asset_events(manifest, translator, context):
            yield _with_row_count(event, raw_event)
    [outcome] = outcomes
    context.log.info("dbt: %s", _summary(outcome))
    raise_on_failure(outcome, {key: text for key, text in outcome.problems.items() if not key.startswith("test.")})


def _selected_args(context: dg.AssetExecutionContext, manifest: Mapping[str, Any]) -> list[str]:
    specs = context.assets_def
    chosen = [specs.get_asset_spec(key).metadata[UNIQUE_ID] for key in context.selected_asset_keys]
    chosen += [
        (specs.get_spec_for_check_key(key).metadata or {})[UNIQUE_ID] for key in context.selected_asset_check_keys
    ]
    names = sorted(".".join(manifest["nodes"][unique_id]["fqn"]) for unique_id in chosen)
    full = [_FULL_REFRESH] if FULL_REFRESH_TAG in context.run.tags else []
    # Exactly these: dbt would add each test that has a selected model among its parents, also where another parent
    # is not rebuilt and the two rightly differ.
    return ["build", *full, "--indirect-selection", "empty", "--exclude-resource-type", "unit_test", "--select", *names]


def _translator_of(assets_def: dg.AssetsDefinition) -> Any:
    from dagster_dbt.asset_utils import get_manifest_and_translator_from_dbt_assets

    return get_manifest_and_translator_from_dbt_assets([assets_def])[1]


def stream_dbt(args: Sequence[str], url: PostgresUrl, on_end: Callable[[Outcome], None]) -> Iterator[dict[str, Any]]:
    """Run one dbt command and yield its result events, in the form of its JSON log, while it runs.

    Closing the iterator, or an exception in the caller (an interrupted run), stops dbt.

    Args:
        args: as after `dbt` on a command line.
        url: the database.
        on_end: called with how it ended, if it did.
    """
    from dbt_common.events.functions import msg_to_dict

    events: queue.SimpleQueue[dict[str, Any] | BaseException | Outcome] = queue.SimpleQueue()
    application = f"{APPLICATION}-{uuid.uuid4().hex[:12]}"

    def on_event(message: Any) -> None:
        if message.info.name in _RESULTS:
            events.put(msg_to_dict(message))

    def work() -> None:
        try:
            events.put(_run(args, url, PROJECT_DIR, application, on_event))
        except BaseException as error:
            events.put(error)

    worker = threading.Thread(target=work, name=application, daemon=True)
    worker.start()
    try:
        while isinstance(event := events.get(), dict):
            yield event
        if isinstance(event, BaseException):
            raise event
        on_end(event)
    finally:
        _stop(worker, url, application)


def _run(
    args: Sequence[str],
    url: PostgresUrl,
    project_dir: Path,
    application: str = APPLICATION,
    on_event: Callable[[Any], None] | None = None,
) -> Outcome:
    kept = kept_manifest(url.database, project_dir)
    with tempfile.TemporaryDirectory(prefix="tidemark-dbt-") as target, _one_writer(url, application) as connection:
        # With --empty nothing is made that a later increment could be added to.
        builds = args[0] in _BUILDING and "--empty" not in args
        defined = definitions_of(kept.read()) if builds else {}
        selected = _selected(args, defined)
        anew = selected if _FULL_REFRESH in args else made_anew(stale_models(connection, defined) & selected)
        forget(connection, anew)
        outcome = invoke_dbt(
            args,
            url,
            target_path=Path(target),
            project_dir=project_dir,
            packed_manifest=kept.packed(),
            on_event=on_event,
            application=application,
            variables={
                "TIDEMARK_DBT_ANEW": ",".join(sorted(anew)),
                "TIDEMARK_DBT_STANDING": ",".join(sorted(standing_models(connection, defined))),
            },
        )
        remember(connection, outcome.built_models(), defined)
    return outcome


def _selected(args: Sequence[str], defined: Mapping[str, Definition]) -> set[str]:
    """The models that are named after --select; all of them where a graph operator or nothing selects."""
    if "--select" not in args:
        return set(defined)
    names = args[args.index("--select") + 1 :]
    plain = not any(operator in name for name in names for operator in "+*@:")
    return set(defined) & {name.rsplit(".", 1)[-1] for name in names} if plain else set(defined)


@contextmanager
def _one_writer(url: PostgresUrl, application: str) -> Iterator[Connection]:
    """Wait until no other process builds in this database: two that swap the same tables would trip over each other."""
    with connect(url, autocommit=True) as connection:
        connection.execute(_NAME_CONNECTION, {"application": application})
        connection.execute(_LOCK, {"key": AdvisoryLock.WAREHOUSE_BUILD.value})
        yield connection


def _stop(worker: threading.Thread, url: PostgresUrl, application: str) -> None:
    """Wait for dbt's end; where the run was interrupted, cut its connections until it gives up."""
    worker.join(_CANCEL_PAUSE_SECONDS)
    while worker.is_alive():
        with suppress(DatabaseUnavailableError), connect(url) as connection:
            connection.execute(_CANCEL, {"application": application})
        worker.join(_CANCEL_PAUSE_SECONDS)


def _with_row_count(event: DagsterEvent, raw_event: Mapping[str, Any]) -> DagsterEvent:
    """Add how many rows this build wrote (not how many there are); dbt logs it in the status, so it costs no query."""
    counted = _ROW_COUNT.match(str(raw_event["data"].get("status", "")))
    if not isinstance(event, dg.Output) or counted is None:
        return event
    return event.with_metadata({**event.metadata, "rows_written": int(counted.group(1))})


def _summary(outcome: Outcome) -> str:
    counts: dict[str, int] = {}
    for status in outcome.statuses.values():
        counts[status] = counts.get(status, 0) + 1
    return ", ".join(f"{number} {status}" for status, number in sorted(counts.items())) or "nothing to do"
