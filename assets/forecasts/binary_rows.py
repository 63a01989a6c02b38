"""Rows of fixed width in PostgreSQL's binary COPY format, straight from arrays: no Python object a value.

Belongs here: that format. Does not belong here: which rows.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt

from storage.database import Connection

# PostgreSQL's dates are days since then.
EPOCH = date(2000, 1, 1)
_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
# What a column of which kind is sent as: integer, bigint, double precision, boolean; uuid and bytea as their bytes.
_FORMS = {"i4": ">i4", "i8": ">i8", "f8": ">f8", "b1": "i1"}


def copy_columns(connection: Connection, statement: LiteralString, columns: Sequence[npt.NDArray[Any]]) -> None:
    """Send rows; there is no null, so that a column that may be null says so by a number that is none (NaN).

    Args:
        connection: within a transaction.
        statement: `copy … from stdin (format binary)`.
        columns: in the order of the statement's, each (rows) of int32, int64, float64, bool or so many bytes.
    """
    kinds = [column.dtype.str.lstrip("<|=>") for column in columns]
    forms = [kind if kind.startswith("V") else _FORMS[kind] for kind in kinds]
    fields = [("fields", ">i2")]
    for place, form in enumerate(forms):
        fields += [(f"size_{place}", ">i4"), (f"value_{place}", form)]
    rows = np.empty(len(columns[0]), dtype=np.dtype(fields))
    rows["fields"] = len(columns)
    for place, (form, column) in enumerate(zip(forms, columns, strict=True)):
        rows[f"size_{place}"] = np.dtype(form).itemsize
        rows[f"value_{place}"] = column
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(_HEADER)
        copy.write(rows.tobytes())
        copy.write(_END)
