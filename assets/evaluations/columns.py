"""Columns of a table as fields of a record: the mapping that a user gives, checked against the contract."""

from collections.abc import Mapping, Sequence
from typing import Any

from assets.evaluations.record_fields import Evaluation, Feedback
from assets.evaluations.verdicts import Kind
from storage.errors import UsageError

COUNTS = ("fields_correct", "fields_total")
_FEATURE = "features."
_RECORDS: dict[Kind, Any] = {"evaluations": Evaluation, "feedback": Feedback}


def parse_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Read `column=field` pairs as the command line gives them.

    Raises:
        UsageError: a pair has no `=`.
    """
    mapping = {}
    for pair in pairs:
        column, sign, field = pair.partition("=")
        if not sign or not column:
            raise UsageError(
                f"--map {pair!r}: write column=field, for example --map model=extractor_model, "
                "--map seconds=features.seconds, or --map notes= to leave a column out"
            )
        mapping[column] = field
    return mapping


def fields_of_columns(name: str, kind: Kind, columns: Sequence[str], mapping: Mapping[str, str]) -> list[str | None]:
    """The field of each column, None where the column is left out.

    Raises:
        UsageError: a column has no field, two have the same, or one that every record needs is missing.
    """
    known = set(_RECORDS[kind].__annotations__)
    if "" in columns:
        raise UsageError(
            f"{name}: column {list(columns).index('') + 1} has no name. Name it, or leave it out when writing the file "
            "(pandas: to_csv(index=False))."
        )
    absent = sorted(set(mapping) - set(columns))
    if absent:
        raise UsageError(f"{name} has no column {', '.join(absent)}, which --map names. It has: {', '.join(columns)}.")
    fields = [mapping.get(column, column) or None for column in columns]
    unknown = sorted(field for field in fields if field and field not in known and not _is_feature(kind, field))
    if unknown:
        raise UsageError(
            f"{name}: {', '.join(unknown)}: no field of the contract. Map each column to a field (--map "
            f"{unknown[0]}=template), to a feature (--map {unknown[0]}=features.{unknown[0]}), or leave it out (--map "
            f"{unknown[0]}=)."
        )
    doubled = sorted({field for field in fields if field and fields.count(field) > 1})
    if doubled:
        raise UsageError(f"{name}: more than one column stands for {', '.join(doubled)}; leave one out with --map.")
    needed = sorted(_RECORDS[kind].__required_keys__)
    missing = [name for name in needed if name not in fields]
    if missing:
        raise UsageError(
            f"{name} has no column {', '.join(missing)}, which every record needs. Its columns: {', '.join(columns)}. "
            f"Say which one it is: --map COLUMN={missing[0]}"
        )
    return fields


class AsWritten(dict[str, object]):
    """A JSON object that says a key twice: `json.dumps` writes it as it was, for the contract to refuse."""

    def __init__(self, pairs: Sequence[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def items(self) -> Any:
        """The pairs, as a sequence."""
        return self._pairs

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
        """A plain dictionary where no key comes twice."""
        plain = dict(pairs)
        return plain if len(plain) == len(pairs) else cls(pairs)


def record_of_row(fields: Sequence[str | None], cells: Sequence[object]) -> dict[str, object]:
    """One row as a record: empty cells are left out, `features.*` columns become one object."""
    record: dict[str, object] = {}
    features: list[tuple[str, object]] = []
    for field, cell in zip(fields, cells, strict=True):
        if field is None or cell is None:
            continue
        if field.startswith(_FEATURE):
            features.append((field.removeprefix(_FEATURE), cell))
        else:
            record[field] = cell
    if features:
        given = record.get("features", {})
        if isinstance(given, dict):
            record["features"] = AsWritten.of([*given.items(), *features])
    return record


def whole(value: object) -> object:
    """A count that a table with gaps carries as 3.0; any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_feature(kind: Kind, field: str) -> bool:
    return kind == "evaluations" and field.startswith(_FEATURE) and len(field) > len(_FEATURE)
