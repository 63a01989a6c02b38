"""Matchers: which alerts a silence or an inhibition is about, with Alertmanager's meanings.

`=` and `!=` compare a label's value; `=~` and `!~` hold it against a regular expression that has to fit all of it. A
label that an alert doesn't have is equal to the empty string. Several matchers fit where each of them does.

Regular expressions are Rust's, by way of pydantic: as with RE2, which Alertmanager uses, the time is linear in the
value, so that no tenant's pattern can hold up the scan of all.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from storage.errors import UsageError

Label = Literal["event_type", "severity", "template", "extractor_vendor", "extractor_model"]
Operator = Literal["=", "!=", "=~", "!~"]

LABELS: tuple[Label, ...] = get_args(Label)
MAX_VALUE_LENGTH = 200

_WRITTEN = re.compile(r"\s*([A-Za-z_]+)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Matcher:
    """What an alert's label must be: equal to a value or different from it, fitting a pattern or not."""

    name: Label
    operator: Operator
    value: str

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert of these labels is meant."""
        value = labels.get(self.name, "")
        is_wanted = value == self.value if self.operator in ("=", "!=") else _fits_pattern(self.value, value)
        return is_wanted if self.operator in ("=", "=~") else not is_wanted

    def __str__(self) -> str:
        # As `parse_matcher` reads it: quoted where it would take something of the value for something else.
        value = self.value
        is_plain = value == value.strip() and not value.startswith("~") and not _is_quoted(value)
        return f"{self.name}{self.operator}{value}" if is_plain else f'{self.name}{self.operator}"{value}"'


def fit(matchers: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether every matcher fits an alert of these labels."""
    return all(matcher.fits(labels) for matcher in matchers)


def parse_matcher(text: str) -> Matcher:
    """A matcher as people write it: `template=invoice`, `event_type=~drift_.*`, `severity!="info"`.

    Raises:
        UsageError: it isn't one, or its label or pattern can't be.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise UsageError(f"matcher {text!r} isn't label=value, label!=value, label=~pattern or label!~pattern")
    name, operator, value = found.groups()
    if _is_quoted(value):
        value = value[1:-1]
    matcher = Matcher(name, operator, value)  # type: ignore[arg-type]
    _check(matcher, "matchers")
    return matcher


def read_matchers(stored: Sequence[Mapping[str, str]]) -> tuple[Matcher, ...]:
    """Matchers as they are kept in a row, or in a configuration file."""
    return tuple(Matcher(row["name"], row["operator"], row["value"]) for row in stored)  # type: ignore[arg-type]


def check_matchers(matchers: Sequence[Matcher], field: str) -> None:
    """Refuse matchers that no alert or every alert could fit.

    Raises:
        UsageError: naming the field, the matcher and what is wrong with it.
    """
    if not matchers:
        raise UsageError(f"{field}: at least one matcher is needed, else every alert would be meant")
    for matcher in matchers:
        _check(matcher, field)
    equal = [matcher.name for matcher in matchers if matcher.operator == "="]
    twice = sorted({name for name in equal if equal.count(name) > 1})
    if twice:
        raise UsageError(f"{field}: {', '.join(twice)} can't equal two values at once; use =~ or set one for each")
    # As Alertmanager refuses it: a mere `template!=x` is soon for more than was meant.
    if all(matcher.fits({}) for matcher in matchers):
        raise UsageError(f"{field}: they fit an alert without any label too; if all are meant, add event_type=~.+")


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] == '"'


def _check(matcher: Matcher, field: str) -> None:
    if matcher.name not in LABELS:
        raise UsageError(f"{field}: unknown label {matcher.name!r}. Use one of: {', '.join(LABELS)}")
    if matcher.operator not in get_args(Operator):
        raise UsageError(f"{field}: unknown operator {matcher.operator!r}. Use one of: = != =~ !~")
    if len(matcher.value) > MAX_VALUE_LENGTH:
        raise UsageError(f"{field}: a matcher's value has at most {MAX_VALUE_LENGTH} characters")
    if "\0" in matcher.value:
        raise UsageError(f"{field}: a matcher's value has no NUL character")
    if matcher.operator in ("=~", "!~"):
        _check_pattern(matcher.value, field)


def _check_pattern(pattern: str, field: str) -> None:
    try:
        # Alone at first: `a)|(b` is a pattern only where something is put around it.
        _adapter(pattern)
        _compiled(pattern)
    except SchemaError as error:
        reason = str(error).strip().splitlines()[-1].removeprefix("error: ")
        raise UsageError(f"{field}: {pattern!r} isn't a regular expression of Rust's or RE2's kind: {reason}") from None


def _fits_pattern(pattern: str, value: str) -> bool:
    try:
        _compiled(pattern).validate_python(value)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> TypeAdapter[str]:
    return _adapter(f"^(?s:{pattern})$")


def _adapter(pattern: str) -> TypeAdapter[str]:
    return TypeAdapter(Annotated[str, Field(pattern=pattern)])
