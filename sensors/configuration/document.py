"""The configuration file: its shape (version 1), its checksums, its text, and how two of them differ.

The checksum is of the content alone, as canonical JSON: comments, order of keys and layout are free. `base` is the
checksum of what was deployed when the file was exported, so that nobody overwrites what another has changed since.

Does not belong here: where the content comes from and goes to (`rows`).
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import yaml

from storage.errors import UsageError

VERSION = 1
MAX_BYTES = 4 * 1024 * 1024
SECTIONS = ("thresholds", "inhibitions", "policy", "webhooks")

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?=.)(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d{1,6})?)s)?")
_HEAD = """\
# Tidemark's configuration. After a change: `tidemark config seal FILE`, `tidemark config apply FILE --dry-run`, then
# `tidemark config apply FILE`. Secrets and the paths of endpoints are not in here.
"""

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Document:
    """A file that was read: what it says, what it says its checksum is, and what it was made from."""

    content: Content
    checksum: str
    base: str

    @property
    def tenant_id(self) -> str | None:
        """Whose configuration it is; None: the defaults of all tenants."""
        tenant: str | None = self.content["tenant"]
        return tenant


def checksum(content: Content) -> str:
    """`sha256:` and 64 hexadecimal digits over the content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def write_document(content: Content, base: str) -> str:
    """The file's text, with the checksum of this content."""
    head = {"tidemark_config": VERSION, "base": base, "checksum": checksum(content)}
    return _HEAD + yaml.safe_dump({**head, **content}, sort_keys=False, allow_unicode=True, width=120)


def read_document(text: str) -> Document:
    """Read a file's text.

    Raises:
        UsageError: it is no configuration of this version, or its shape is wrong; naming the field.
    """
    if len(text.encode()) > MAX_BYTES:
        raise UsageError(f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB")
    found = _load(text)
    if not isinstance(found, dict) or found.get("tidemark_config") != VERSION:
        raise UsageError(f"tidemark_config: must be {VERSION}; `tidemark config export` writes such a file")
    tenant = found.get("tenant")
    if tenant is not None and not isinstance(tenant, str):
        raise UsageError("tenant: must be a tenant's identifier, or null for the defaults")
    sections = SECTIONS if tenant is not None else SECTIONS[:1]
    expected = {"tidemark_config", "base", "checksum", "tenant", *sections}
    if set(found) != expected:
        wrong = ", ".join(sorted(str(name) for name in set(found) ^ expected))
        raise UsageError(f"{wrong}: unknown or missing; a file has exactly {', '.join(sorted(expected))}")
    for name in sections:
        wanted = dict if name == "policy" else list
        entries = found[name] if wanted is list else [found[name]]
        if not isinstance(found[name], wanted) or not all(isinstance(entry, dict) for entry in entries):
            raise UsageError(f"{name}: must be {'a mapping' if wanted is dict else 'a list of mappings'}")
    content = {name: found[name] for name in ("tenant", *sections)}
    try:
        checksum(found)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the file holds what has no place in JSON: {error}; put dates into quotes") from None
    if any("\0" in text for text in _texts(content)):
        raise UsageError("the file holds a NUL character (\\0), which no row can keep")
    return Document(content, str(found["checksum"]), str(found["base"]))


class _Loader(yaml.SafeLoader):
    """Refuses what would say more, or less, than stands there: references, and a key that is there twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(problem="references (*name) are not read: write them out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _load(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a kind of SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        # Of a number or date that can't be, YAML's own errors say nothing.
        raise UsageError(f"the file isn't YAML: {error}") from None
    except RecursionError:
        raise UsageError("the file isn't a configuration: it is nested too deeply") from None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.items():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def format_duration(time: timedelta) -> str:
    """A time as Prometheus writes it: `7d`, `1h30m`, `0s`."""
    seconds = time.total_seconds()
    text = ""
    for unit in "dhm":
        count, seconds = divmod(seconds, _UNITS[unit])
        text += f"{count:.0f}{unit}" if count else ""
    return text + (f"{seconds:g}s" if seconds or not text else "")


def parse_duration(text: object, field: str) -> timedelta:
    """The time that `format_duration` or a person wrote.

    Raises:
        UsageError: naming the field.
    """
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise UsageError(f"{field}: {text!r} isn't a duration such as 7d, 1h30m or 45s")
    parts = zip("wdhms", found.groups(), strict=True)
    seconds = sum(float(count) * _UNITS[unit] for unit, count in parts if count)
    if not math.isfinite(seconds) or seconds > 3650 * _UNITS["d"]:
        raise UsageError(f"{field}: {text!r} is longer than ten years")
    return timedelta(seconds=seconds)


def differences(deployed: Content, wanted: Content) -> list[Mapping[str, object]]:
    """What an apply would change: the entry, what it is and what it becomes; None where there is none."""
    found: list[Mapping[str, object]] = []
    for name in SECTIONS:
        before, after = _by_key(name, deployed.get(name)), _by_key(name, wanted.get(name))
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                found.append({"section": name, "entry": key, "from": before.get(key), "to": after.get(key)})
    return found


def _by_key(section: str, entries: Any) -> dict[str, Mapping[str, object]]:
    if section == "policy":
        return {"policy": entries} if entries is not None else {}
    keyed = {}
    for entry in entries or ():
        if section == "thresholds":
            key = entry_key(entry)
        else:
            key = str(entry["webhook_id"]) if section == "webhooks" else json.dumps(entry, sort_keys=True)
        if key in keyed:
            raise UsageError(f"{section}: {key} stands there twice")
        keyed[key] = entry
    return keyed


def entry_key(threshold: Mapping[str, object], names: Sequence[str] = ()) -> str:
    """Which threshold it is: its event type and for whom it holds."""
    scope = names or ("tier", "template", "extractor_vendor", "extractor_model")
    # Quoted, because a template may be called `x extractor_vendor=y`.
    quoted = (f"{name}={json.dumps(threshold[name], ensure_ascii=False)}" for name in scope if threshold.get(name))
    return " ".join([str(threshold.get("event_type")), *quoted])
