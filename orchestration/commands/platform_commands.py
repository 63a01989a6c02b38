"""`tidemark migrate`, `settings`, `doctor` and `psql`: the deployment itself."""

import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta

import typer

from orchestration.addresses import Address, door_address, page_address
from orchestration.commands.shared import JsonOption, console, platform, print_json, show
from orchestration.platform import Platform
from orchestration.supervisor import is_served
from sensors.backlog import read_backlog
from sensors.health import problems_of, read_unserved
from storage.database import create_if_missing
from storage.embedded import client_program
from storage.leaks import find_leaks
from storage.migrate import migrate as migrate_database
from storage.settings import Settings, load_settings

_LEAST_FREE_BYTES = 1 << 30
_HEARTBEAT_PATIENCE = timedelta(seconds=60)


def migrate(as_json: JsonOption = False) -> None:
    """Make the databases and bring the schema up to date (every start does this too, Dagster's where it is used)."""
    with platform() as opened:
        revision = migrate_database(opened.database.platform)
        create_if_missing(opened.database.dagster)
        address = opened.database.platform.masked()
    if as_json:
        print_json({"revision": revision, "database": address})
    else:
        console.print(f"Schema is at revision {revision} in {address}", highlight=False, soft_wrap=True)


def settings(as_json: JsonOption = False) -> None:
    """Show every setting, its value and its meaning; secrets are masked."""
    loaded = load_settings()
    rows = [
        {"variable": f"TIDEMARK_{name.upper()}", "value": _shown(loaded, name), "meaning": field.description}
        for name, field in Settings.model_fields.items()
    ]
    show(rows, as_json)


def _shown(loaded: Settings, name: str) -> str:
    value = getattr(loaded, name)
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return "" if value is None else str(value)


def doctor(as_json: JsonOption = False) -> None:
    """Check that this deployment can work; exit 1 if something is wrong, with the remedy beside it."""
    with platform() as opened:
        results = [{"check": name, "result": check(opened) or "ok"} for name, check in _CHECKS.items()]
    show(results, as_json)
    if any(result["result"] != "ok" for result in results):
        raise typer.Exit(1)


def _database(opened: Platform) -> str | None:
    with opened.database.connect() as connection:
        row = connection.execute("select 1").fetchone()
    return None if row else "the server answers nothing"


def _partitions(opened: Platform) -> str | None:
    with opened.database.connect() as connection:
        row = connection.execute(
            "select to_regclass('raw.evaluations_' || to_char(now() + interval '1 month', 'YYYYMM'))"
        ).fetchone()
    return None if row and row[0] else "next month's partition is missing: run tidemark migrate"


def _secret_key(opened: Platform) -> str | None:
    path = opened.settings.home / "secret.key"
    if opened.settings.secret_keys or not path.exists() or not path.stat().st_mode & 0o077:
        return None
    return f"others may read {path}: chmod 600 {path}"


def _leaks(opened: Platform) -> str | None:
    with opened.database.connect() as connection:
        return "; ".join(map(str, find_leaks(connection))) or None


def _dispatcher(opened: Platform) -> str | None:
    if not is_served(opened.database):
        return None
    with opened.database.connect() as connection:
        seen_at = read_backlog(connection).dispatcher_seen_at
    if seen_at is not None and opened.clock.now() - seen_at < _HEARTBEAT_PATIENCE:
        return None
    log = opened.settings.home / "logs" / "dispatcher.log"
    return f"not seen since {seen_at or 'ever'}: webhooks wait for the sensor, up to 5 s. Its log is {log}"


def _endpoints(opened: Platform) -> str | None:
    with opened.database.connect() as connection:
        return "; ".join(problems_of(read_unserved(connection))) or None


def _disk(opened: Platform) -> str | None:
    free = shutil.disk_usage(opened.settings.home.parent).free
    return None if free >= _LEAST_FREE_BYTES else f"only {free >> 20} MiB free beside {opened.settings.home}"


def _door_port(opened: Platform) -> str | None:
    return _port(opened, door_address(opened.settings))


def _page_port(opened: Platform) -> str | None:
    return _port(opened, page_address(opened.settings))


def _port(opened: Platform, address: Address) -> str | None:
    if is_served(opened.database) or not address.is_taken():
        return None
    return f"port {address.port} is in use: stop what uses it or set {address.variable}"


_CHECKS: dict[str, Callable[[Platform], str | None]] = {
    "PostgreSQL": _database,
    "partitions ahead": _partitions,
    "secret key": _secret_key,
    "readers' isolation": _leaks,
    "dispatcher": _dispatcher,
    "webhook endpoints": _endpoints,
    "disk space": _disk,
    "port of the HTTP door": _door_port,
    "port of Dagster's page": _page_port,
}


def psql(context: typer.Context) -> None:
    """Open psql on the platform's database; the bundled one, so none need be installed. Takes psql's own options."""
    with platform() as opened:
        arguments = [str(client_program("psql")), opened.database.platform.libpq()]
        status = subprocess.run([*arguments, *context.args], check=False).returncode
    raise typer.Exit(status)
