"""Keys that a JSON object says twice: parsers take the last one silently, and a sender loses the other.

Belongs here: finding them. Does not belong here: what else a record may not be (`contract`).
"""

import json
from collections.abc import Sequence


def first_repeated_key(payload: bytes) -> str | None:
    """The first key that is said twice, as `key` or as `outer.key`; None if there is none.

    Args:
        payload: a valid JSON object, whose values may be objects.
    """
    # Numbers are not looked at; one of very many digits is no int.
    found = json.loads(payload.decode(), object_pairs_hook=_repeated, parse_int=float)
    return found.key if isinstance(found, _Repeated) else None


class _Repeated:
    def __init__(self, key: str) -> None:
        self.key = key


def _repeated(pairs: Sequence[tuple[str, object]]) -> _Repeated | None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return _Repeated(name)
        seen.add(name)
    within = (_Repeated(f"{name}.{value.key}") for name, value in pairs if isinstance(value, _Repeated))
    return next(within, None)
