"""Exporting what is deployed, and applying a file: in one transaction, audited with both checksums, or on trial.

Does not belong here: what a file says (`document`) and what becomes of it (`rows`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sensors.alerts.dry_run import DryRun, dry_run
from sensors.configuration.document import Document, checksum, differences, write_document
from sensors.configuration.rows import check_content, read_deployed, write_rest, write_thresholds
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import ConflictError, UsageError

# Against each other and against every single change, so that the base is what is deployed until the end. Endpoints by
# their rows, in the order in which dispatchers take them: of a table that is locked a dispatcher that holds a row would
# wait for the table, and this here for the row.
_LOCK = """
lock table alerting.thresholds, alerting.inhibitions, alerting.notification_policies in share row exclusive mode
"""
_LOCK_ENDPOINTS = "select from alerting.webhooks where tenant_id = %(tenant_id)s order by webhook_id for no key update"


@dataclass(frozen=True)
class Applied:
    """What was, or would be, changed: the checksums before and after, and the entries that differ."""

    before: str
    after: str
    changes: Sequence[Mapping[str, object]]


def export(connection: Connection, tenant_id: str | None) -> str:
    """What is deployed for a tenant, or by default (None), as a file's text.

    Raises:
        UsageError: an unknown tenant.
    """
    content = read_deployed(connection, tenant_id)
    return write_document(content, checksum(content))


def seal(connection: Connection, document: Document) -> str:
    """The text of a changed file, checked, with the checksum of what it says now.

    Raises:
        UsageError: it says what can't be applied.
    """
    return write_document(check_content(connection, document.content), document.base)


def apply(connection: Connection, document: Document, *, force: bool = False) -> Applied:
    """Make what is deployed what the file says, all of it or nothing.

    Args:
        connection: in UTC.
        document: from `read_document`.
        force: also where its checksum isn't its own, or what is deployed has been changed since its export.

    Raises:
        UsageError: it says what can't be applied, or its checksum is another one.
        ConflictError: what is deployed isn't what the file was made from.
    """
    with connection.transaction():
        connection.execute(_LOCK)
        connection.execute(_LOCK_ENDPOINTS, {"tenant_id": document.tenant_id})
        applied = compare(connection, document, force=force)
        if applied.changes:
            content = check_content(connection, document.content)
            write_thresholds(connection, content)
            write_rest(connection, content)
            detail = {"from": applied.before, "to": applied.after, "forced": force, "changes": len(applied.changes)}
            record_audit(
                connection,
                tenant_id=document.tenant_id,
                action="config.apply",
                subject=document.tenant_id or "defaults",
                detail=detail,
            )
    return applied


def compare(connection: Connection, document: Document, *, force: bool = False) -> Applied:
    """What applying the file would change; refused as by `apply`."""
    if document.checksum != checksum(document.content) and not force:
        raise UsageError("checksum: the file says something else than when it was sealed: `tidemark config seal FILE`")
    deployed = read_deployed(connection, document.tenant_id)
    before = checksum(deployed)
    content = check_content(connection, document.content)
    changes = differences(deployed, content)
    # A file whose every word is deployed may be applied again and again, as from a repository's pipeline.
    if changes and document.base != before and not force:
        raise ConflictError(
            f"base: what is deployed ({before}) has been changed since the file was exported ({document.base}). Export "
            "it again and carry your changes over, or overwrite with --force"
        )
    return Applied(before, checksum(content), changes)


def try_out(connection: Connection, document: Document, *, days: int, now: datetime) -> DryRun:
    """What would have fired in the last days under the file's thresholds; changes nothing.

    Raises:
        UsageError: it says what can't be applied.
    """
    content = check_content(connection, document.content)
    return dry_run(
        connection, document.tenant_id, days=days, now=now, change=lambda: write_thresholds(connection, content)
    )
