"""`tidemark key`: who may come in by the HTTP door."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

import typer

from orchestration.commands.shared import JsonOption, TenantOption, console, print_json, show, transaction
from storage.api_keys import DEFAULT_OVERLAP, SCOPES, ApiKey, create_key, list_keys, revoke_key, rotate_key

app = typer.Typer(no_args_is_help=True, help="API keys: who may come in by the HTTP door.")

KeyArgument = Annotated[str, typer.Argument(help="The key's identifier, from `key list`.")]
_SHOWN_ONCE = "Keep the key now: it is not shown again. It goes into the header X-API-Key."
_LONGEST_DAYS = 3650


@app.command()
def create(
    tenant: TenantOption,
    scope: Annotated[list[str], typer.Option(help=f"One of {', '.join(SCOPES)}; may be repeated.")],
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=_LONGEST_DAYS, help="How long it is good; for ever, if not given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once."""
    lifetime = None if expires_in_days is None else timedelta(days=expires_in_days)
    with transaction() as (opened, connection):
        key, text = create_key(connection, tenant, scope, now=opened.clock.now(), lifetime=lifetime)
    _print_made(key, text, as_json)


@app.command("list")
def list_(tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Show a tenant's keys, without their secrets."""
    with transaction() as (opened, connection):
        now = opened.clock.now()
        rows = [_row(key, now) for key in list_keys(connection, tenant)]
    show(rows, as_json, title=f"Keys of {tenant}", empty="No keys: tidemark key create --tenant T --scope read")


@app.command()
def revoke(key_id: KeyArgument, tenant: TenantOption, as_json: JsonOption = False) -> None:
    """Let a key open nothing any more; a running gateway sees it within seconds."""
    with transaction() as (opened, connection):
        now = opened.clock.now()
        row = _row(revoke_key(connection, tenant, key_id, now=now), now)
    if as_json:
        print_json(row)
    else:
        show([row], as_json)


@app.command()
def rotate(
    key_id: KeyArgument,
    tenant: TenantOption,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=24 * 365, help="How long the old key stays good.")
    ] = DEFAULT_OVERLAP / timedelta(hours=1),
    as_json: JsonOption = False,
) -> None:
    """Make a key's successor, of the same scopes and lifetime, and print it, this once."""
    overlap = timedelta(hours=overlap_hours)
    with transaction() as (opened, connection):
        key, text, old_ends = rotate_key(connection, tenant, key_id, now=opened.clock.now(), overlap=overlap)
    _print_made(key, text, as_json, old=key_id, old_ends=old_ends)


def _row(key: ApiKey, now: datetime) -> dict[str, object]:
    return {"key_id": key.key_id, "state": key.state(now), **asdict(key)}


def _print_made(
    key: ApiKey, text: str, as_json: bool, *, old: str | None = None, old_ends: datetime | None = None
) -> None:
    if as_json:
        replaced = {} if old is None else {"replaces": {"key_id": old, "expires_at": old_ends}}
        print_json({"key": text, **asdict(key), **replaced})
        return
    console.print(f"Key {key.key_id} of {key.tenant_id} ({', '.join(key.scopes)})", highlight=False)
    console.print(f"{text}\n{_SHOWN_ONCE}", highlight=False, soft_wrap=True)
    if old_ends is not None:
        console.print(f"The old key {old} is good until {old_ends:%Y-%m-%d %H:%M:%SZ}.", highlight=False)
