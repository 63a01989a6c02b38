"""What is deployed, as the content of a configuration file, and a file's content as rows.

Thresholds are read by the columns that their table has, each with its type. Webhooks are named by their identifiers:
making one shows a secret once, and deleting one cancels what it hasn't got yet, so a file does neither.

Does not belong here: the file itself (`document`), who may apply it and when (`applying`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from sensors.alerts.inhibitions import (
    add_inhibition,
    check_inhibition,
    inhibition_row,
    list_inhibitions,
    remove_inhibition,
)
from sensors.alerts.matchers import parse_matcher
from sensors.alerts.policies import check_policy, get_policy, set_policy
from sensors.alerts.policy import Inhibition, Policy
from sensors.alerts.thresholds import Threshold, check_threshold
from sensors.configuration.document import Content, entry_key, format_duration, parse_duration
from sensors.webhooks.changes import change_interest
from sensors.webhooks.registry import (
    check_event_types,
    list_webhooks,
    pause_webhook,
    resume_webhook,
)
from storage.database import Connection
from storage.errors import UsageError
from storage.tenants import require_tenant

_OWN = ("threshold_id", "tenant_id", "updated_at")
_COLUMNS = """
select column_name, data_type, is_nullable = 'YES' as nullable
from information_schema.columns
where table_schema = 'alerting' and table_name = 'thresholds' and not column_name = any(%(own)s)
order by ordinal_position
"""
_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "double precision": (float, int),
    "integer": (int,),
    "boolean": (bool,),
    "interval": (str,),
}
_TIMES = ("group_wait", "group_interval", "repeat_interval", "suppression_window")


@dataclass(frozen=True)
class _Column:
    name: str
    data_type: str
    nullable: bool

    @property
    def is_scope(self) -> bool:
        """Whether it says for whom a threshold holds."""
        return self.nullable and self.data_type == "text"

    def write(self, value: Any) -> Any:
        """As a file has it."""
        return format_duration(value) if self.data_type == "interval" and value is not None else value

    def read(self, entry: Mapping[str, Any], where: str) -> Any:
        """As a row has it.

        Raises:
            UsageError: missing, or of another type.
        """
        value: Any = entry.get(self.name)
        field = f"{where}: {self.name}"
        if value is None:
            if not self.nullable:
                raise UsageError(f"{field} is missing")
            return None
        # A boolean is a number to Python.
        is_fitting = isinstance(value, _TYPES[self.data_type])
        if not is_fitting or isinstance(value, bool) is not (self.data_type == "boolean"):
            raise UsageError(f"{field} must be of type {self.data_type}, not {value!r}")
        if self.data_type == "double precision":
            try:
                return float(value)
            except OverflowError:
                raise UsageError(f"{field} is larger than any number of type {self.data_type}") from None
        return parse_duration(value, field) if self.data_type == "interval" else value


def read_deployed(connection: Connection, tenant_id: str | None) -> Content:
    """What is in force for a tenant by its own settings, or by default (None).

    Raises:
        UsageError: an unknown tenant.
    """
    if tenant_id is not None:
        require_tenant(connection, tenant_id)
    columns = _columns(connection)
    thresholds = [
        {column.name: value for column in columns if (value := column.write(row[column.name])) is not None}
        for row in _rows(connection, tenant_id)
    ]
    content: dict[str, Any] = {
        "tenant": tenant_id,
        "thresholds": sorted(thresholds, key=lambda entry: entry_key(entry, _scope(columns))),
    }
    if tenant_id is None:
        return content
    rules = [inhibition_row(rule) for _, rule in list_inhibitions(connection, tenant_id)]
    return content | {
        "inhibitions": sorted(rules, key=str),
        "policy": _policy_entry(get_policy(connection, tenant_id)),
        "webhooks": _webhook_entries(connection, tenant_id),
    }


def check_content(connection: Connection, content: Content) -> Content:
    """Refuse what can't be applied; return the content as an export would write it.

    Raises:
        UsageError: naming section, entry and field.
    """
    tenant_id = content["tenant"]
    columns = _columns(connection)
    rows = _threshold_rows(connection, content)
    thresholds = [{c.name: value for c in columns if (value := c.write(row[c.name])) is not None} for row in rows]
    checked: dict[str, Any] = {
        "tenant": tenant_id,
        "thresholds": sorted(thresholds, key=lambda entry: entry_key(entry, _scope(columns))),
    }
    if tenant_id is None:
        return checked
    _check_webhooks(connection, tenant_id, content["webhooks"])
    rules = [inhibition_row(_inhibition(entry)) for entry in content["inhibitions"]]
    return checked | {
        "inhibitions": sorted(rules, key=str),
        "policy": _policy_entry(_policy(content["policy"])),
        "webhooks": sorted(content["webhooks"], key=lambda entry: str(entry["webhook_id"])),
    }


def write_thresholds(connection: Connection, content: Content) -> None:
    """Make the thresholds what the content says, and touch no other row.

    Raises:
        UsageError: the database refuses a combination.
    """
    tenant_id, columns = content["tenant"], _columns(connection)
    scope = _scope(columns)
    before = {entry_key(row, scope): row for row in _rows(connection, tenant_id)}
    after = {entry_key(row, scope): row for row in _threshold_rows(connection, content)}
    names = [column.name for column in columns]
    try:
        for key in before.keys() - after.keys():
            connection.execute(
                "delete from alerting.thresholds where threshold_id = %s", (before[key]["threshold_id"],)
            )
        for key, row in after.items():
            if key not in before:
                connection.execute(_insert(names), row | {"tenant_id": tenant_id})
            elif any(before[key][name] != row[name] for name in names):
                connection.execute(_update(names), row | {"threshold_id": before[key]["threshold_id"]})
    except psycopg.errors.CheckViolation as error:
        raise UsageError(f"thresholds: {error.diag.message_primary}") from None


def write_rest(connection: Connection, content: Content) -> None:
    """Make inhibitions, policy and webhooks what the content says."""
    tenant_id = content["tenant"]
    if tenant_id is None:
        return
    wanted = {str(inhibition_row(rule)): rule for rule in map(_inhibition, content["inhibitions"])}
    held = {str(inhibition_row(rule)): rule_id for rule_id, rule in list_inhibitions(connection, tenant_id)}
    for key in held.keys() - wanted.keys():
        remove_inhibition(connection, tenant_id, held[key])
    for key in wanted.keys() - held.keys():
        add_inhibition(connection, tenant_id, wanted[key])
    policy = _policy(content["policy"])
    if policy != get_policy(connection, tenant_id):
        set_policy(connection, tenant_id, policy)
    known = {entry["webhook_id"]: entry for entry in _webhook_entries(connection, tenant_id)}
    for entry in content["webhooks"]:
        _change_webhook(connection, tenant_id, known[entry["webhook_id"]], entry)


def _columns(connection: Connection) -> list[_Column]:
    return [_Column(*row) for row in connection.execute(_COLUMNS, {"own": list(_OWN)})]


def _scope(columns: Sequence[_Column]) -> list[str]:
    return [column.name for column in columns if column.is_scope]


def _rows(connection: Connection, tenant_id: str | None) -> list[dict[str, Any]]:
    query = "select * from alerting.thresholds where tenant_id is not distinct from %s"
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, (tenant_id,)).fetchall()


def _threshold_rows(connection: Connection, content: Content) -> list[dict[str, Any]]:
    columns = _columns(connection)
    scope, tenant_id = _scope(columns), content["tenant"]
    comparisons = {row["event_type"]: row["comparison"] for row in _rows(connection, None)}
    rows: dict[str, dict[str, Any]] = {}
    for entry in content["thresholds"]:
        where = f"thresholds: {entry_key(entry, scope)}"
        unknown = sorted(entry.keys() - {column.name for column in columns})
        if unknown:
            raise UsageError(f"{where}: unknown field {', '.join(map(str, unknown))}")
        row = {column.name: column.read(entry, where) for column in columns}
        if comparisons.get(row["event_type"]) != row["comparison"]:
            known = ", ".join(f"{name} ({comparison})" for name, comparison in sorted(comparisons.items()))
            raise UsageError(f"{where}: event_type and comparison must be one of: {known}")
        try:
            check_threshold(Threshold(tenant_id=tenant_id, **row))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        if entry_key(row, scope) in rows:
            raise UsageError(f"{where} stands there twice")
        rows[entry_key(row, scope)] = row
    missing = sorted(comparisons.keys() - rows.keys()) if tenant_id is None else []
    if missing:
        raise UsageError(f"thresholds: {', '.join(missing)}: a default can be disabled (enabled: false), not left out")
    return list(rows.values())


def _insert(names: Sequence[str]) -> sql.Composed:
    every = ["tenant_id", *names]
    return sql.SQL("insert into alerting.thresholds ({}) values ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, every)), sql.SQL(", ").join(map(sql.Placeholder, every))
    )


def _update(names: Sequence[str]) -> sql.Composed:
    pairs = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in names]
    return sql.SQL(
        "update alerting.thresholds set {}, updated_at = now() where threshold_id = %(threshold_id)s"
    ).format(sql.SQL(", ").join(pairs))


def _inhibition(entry: Mapping[str, Any]) -> Inhibition:
    expected = {"source_matchers", "target_matchers", "equal"}
    if set(entry) != expected or not all(_is_texts(entry[name]) for name in expected):
        raise UsageError(f"inhibitions: each has the lists of text {', '.join(sorted(expected))}")
    source, target = ([parse_matcher(text) for text in entry[f"{side}_matchers"]] for side in ("source", "target"))
    rule = Inhibition(tuple(source), tuple(target), tuple(entry["equal"]))
    check_inhibition(rule)
    return rule


def _policy(entry: Mapping[str, Any]) -> Policy:
    if set(entry) != {"group_by", *_TIMES}:
        raise UsageError(f"policy: has exactly group_by, {', '.join(_TIMES)}")
    if entry["group_by"] is not None and not _is_texts(entry["group_by"]):
        raise UsageError("policy: group_by must be null or a list of labels")
    times = {name: None if entry[name] is None else parse_duration(entry[name], f"policy: {name}") for name in _TIMES}
    if times["group_wait"] is None or times["group_interval"] is None:
        raise UsageError("policy: group_wait and group_interval are durations; 0s waits for nothing")
    group_by = None if entry["group_by"] is None else tuple(entry["group_by"])
    policy = Policy(group_by=group_by, **cast("Any", times))
    check_policy(policy)
    return policy


def _policy_entry(policy: Policy) -> dict[str, Any]:
    values = asdict(policy)
    times = {name: None if values[name] is None else format_duration(values[name]) for name in _TIMES}
    return {"group_by": None if policy.group_by is None else list(policy.group_by), **times}


def _webhook_entries(connection: Connection, tenant_id: str) -> list[dict[str, Any]]:
    # The host alone: path and query of an endpoint may be secrets themselves.
    return [
        {
            "webhook_id": str(webhook.webhook_id),
            "host": urlsplit(webhook.url).hostname,
            "status": webhook.status,
            "event_types": list(webhook.event_types),
            "description": webhook.description,
        }
        for webhook in sorted(list_webhooks(connection, tenant_id), key=lambda webhook: str(webhook.webhook_id))
    ]


def _check_webhooks(connection: Connection, tenant_id: str, entries: Sequence[Mapping[str, Any]]) -> None:
    known = {entry["webhook_id"]: entry for entry in _webhook_entries(connection, tenant_id)}
    named = [entry.get("webhook_id") for entry in entries]
    wrong = sorted(str(webhook_id) for webhook_id in set(named) ^ known.keys())
    if wrong or len(named) != len(known):
        raise UsageError(
            f"webhooks: {', '.join(wrong) or 'one is named twice'}: a file names each webhook of the tenant once. "
            "`tidemark webhook create` and `delete` make and end them"
        )
    for entry in entries:
        where, held = f"webhooks: {entry['webhook_id']}", known[entry["webhook_id"]]
        if set(entry) != set(held) or not isinstance(entry["description"], str):
            raise UsageError(f"{where}: has exactly {', '.join(held)}")
        if entry["host"] != held["host"]:
            raise UsageError(f"{where}: host is only told; `tidemark webhook` changes where an endpoint is")
        if entry["status"] != held["status"] and entry["status"] not in ("active", "paused"):
            raise UsageError(f"{where}: status can become active or paused, not {entry['status']!r}")
        if not _is_texts(entry["event_types"]):
            raise UsageError(f"{where}: event_types must be a list of event types; an empty one means all")
        check_event_types(entry["event_types"])


def _change_webhook(connection: Connection, tenant_id: str, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    webhook_id = UUID(held["webhook_id"])
    named = {name: wanted[name] for name in ("event_types", "description") if wanted[name] != held[name]}
    if named:
        change_interest(connection, tenant_id, webhook_id, **named)
    if wanted["status"] != held["status"]:
        change = pause_webhook if wanted["status"] == "paused" else resume_webhook
        change(connection, tenant_id, webhook_id)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
