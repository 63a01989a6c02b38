"""`tidemark audit`: who did what, and whether anybody has changed what is written about it."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer

from orchestration.commands.shared import JsonOption, console, platform, print_json, show, transaction
from storage.audit_seals import Verification, latest_entries, read_witness, verify_log

app = typer.Typer(no_args_is_help=True, help="The audit log: who did what.")

SealOption = Annotated[
    list[str] | None,
    typer.Option("--seal", metavar="DAY:DIGEST", help="A seal as it was told before and kept elsewhere; repeatable."),
]


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only from this UTC time on.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show administrative actions, the newest first."""
    with transaction() as (_, connection):
        moment = None if since is None else since.replace(tzinfo=UTC)
        entries = latest_entries(connection, tenant_id=tenant, since=moment, limit=limit)
    rows = [asdict(entry) | {"detail": orjson.loads(entry.detail) if as_json else entry.detail} for entry in entries]
    hidden = () if as_json else ("entry_id",)
    show([{name: row[name] for name in row if name not in hidden} for row in rows], as_json, empty="No entries.")


@app.command()
def verify(seal: SealOption = None, as_json: JsonOption = False) -> None:
    """Calculate every kept day anew and hold it against the seals; exit 1 if anything differs, naming day and kind."""
    witnesses = dict(read_witness(text) for text in seal or ())
    with platform() as opened, opened.database.connect(autocommit=True) as connection:
        verified = verify_log(connection, witnesses)
    if as_json:
        print_json(_report(verified))
    else:
        _tell(verified)
    if verified.tampering:
        raise typer.Exit(1)


def _report(verified: Verification) -> dict[str, Any]:
    return {
        "tampering": [asdict(found) for found in verified.tampering],
        "days": len(verified.seals),
        "entries": verified.entries,
        "entries_not_sealed_yet": verified.unsealed,
        "newest_seal": _newest(verified),
    }


def _newest(verified: Verification) -> str | None:
    return f"{verified.seals[-1].day}:{verified.seals[-1].digest.hex()}" if verified.seals else None


def _tell(verified: Verification) -> None:
    for found in verified.tampering:
        console.print(str(found), highlight=False, markup=False, soft_wrap=True)
    judged = f"{len(verified.seals)} sealed days with {verified.entries} kept entries"
    outcome = "differ from their seals as above" if verified.tampering else "are as they were sealed"
    console.print(f"{judged} {outcome}; {verified.unsealed} entries are not sealed yet.", highlight=False)
    if newest := _newest(verified):
        console.print(f"Keep the newest seal elsewhere, to be given with --seal: {newest}", soft_wrap=True)
