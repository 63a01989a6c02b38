"""Arrays as bytes: the calibration of a day as one document, memories as one string of bytes a template.

What a class is made of it says itself by its fields, and their names, kinds and shapes are the layout: bytes of another
layout are never read as this one.

Belongs here: that packing, pure and the same for the same values. Does not belong here: tables (`stored`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from io import BytesIO
from typing import Any, TypeVar, get_type_hints

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


def layout_of(kind: type[Any]) -> str:
    """The fields of a dataclass of numbers, arrays and such dataclasses."""
    hints = get_type_hints(kind)
    return ",".join(
        f"{field.name}({layout_of(hints[field.name])})" if is_dataclass(hints[field.name]) else field.name
        for field in fields(kind)
    )


def pack(value: Any) -> bytes:
    """A dataclass's numbers and arrays, one after the other."""
    buffer = BytesIO()
    for array in _arrays(value):
        np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def unpack(kind: type[T], content: bytes) -> T:
    """What `pack` was given."""
    return _read(kind, BytesIO(content))


def row_layout(arrays: dict[str, npt.NDArray[Any]]) -> str:
    """Names, kinds and widths of arrays that have a row a template."""
    return ",".join(f"{name}:{array.dtype.str}:{_width(array)}" for name, array in arrays.items())


def row_bytes(arrays: dict[str, npt.NDArray[Any]], rows: npt.NDArray[np.intp]) -> Iterator[bytes]:
    """The bytes of each chosen row, of all arrays."""
    parts = [np.ascontiguousarray(array[rows]).reshape(len(rows), -1).view(np.uint8) for array in arrays.values()]
    for row in np.concatenate(parts, axis=1) if len(rows) else ():
        yield row.tobytes()


def from_rows(arrays: dict[str, npt.NDArray[Any]], rows: Sequence[int], contents: Sequence[bytes]) -> None:
    """Write rows' bytes back into arrays of the same layout."""
    if not rows:
        return
    table = np.frombuffer(b"".join(contents), dtype=np.uint8).reshape(len(rows), -1)
    start = 0
    for array in arrays.values():
        width = _width(array) * array.itemsize
        part = np.ascontiguousarray(table[:, start : start + width]).view(array.dtype)
        array[list(rows)] = part.reshape(len(rows), *array.shape[1:])
        start += width


def _width(array: npt.NDArray[Any]) -> int:
    return int(np.prod(array.shape[1:], dtype=np.int64))


def _arrays(value: Any) -> Iterator[npt.NDArray[Any]]:
    for field in fields(value):
        part = getattr(value, field.name)
        if is_dataclass(part):
            yield from _arrays(part)
        else:
            yield np.asarray(part)


def _read(kind: type[T], buffer: BytesIO) -> T:
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type] # a dataclass, as the caller promises
        hint = hints[field.name]
        if is_dataclass(hint):
            values[field.name] = _read(hint, buffer)  # type: ignore[arg-type]
        else:
            array = np.load(buffer, allow_pickle=False)
            values[field.name] = array.item() if array.ndim == 0 else array
    return kind(**values)
