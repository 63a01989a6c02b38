"""From a body to the lines that the landing judges: NDJSON, a JSON object or a JSON array, each record's bytes as sent.

Belongs here: where a record begins and ends. Does not belong here: whether it is one; a broken record is a line like
any other, for the contract to refuse by name, and takes nothing else down.
"""

import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from uuid import UUID

import orjson

from assets.evaluations.contract import Refused
from assets.evaluations.verdicts import Line
from gateway.bodies import MOST_RECORDS, too_large
from gateway.problems import ProblemError

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonlines")
JSON = "application/json"
ADMITTED = (*NDJSON, JSON)

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"
_NOT_BLANK = re.compile(rb"[^ \t\n\r\x0b\x0c]")
# A record has a handful; millions of brackets would only cost time.
_MOST_MARKS = 50 * MOST_RECORDS
# Up to the next mark that stands outside of strings; a lone quotation mark begins a string that never ends.
_SKIPPED = rb'(?:[^"\[\]{}%b]++|"(?:[^"\\]++|\\.)*+")*+'
_BETWEEN_RECORDS = re.compile(_SKIPPED % b"," + rb'([\[\]{},"]|\Z)', re.DOTALL)
_WITHIN_A_RECORD = re.compile(_SKIPPED % b"" + rb'([\[\]{}"]|\Z)', re.DOTALL)


def split_records(body: bytes, media_type: str) -> list[Line]:
    """The body's records, numbered as their sender sees them: lines of NDJSON or places in the array, from 1.

    Raises:
        ProblemError: 400 an array that can't be told apart, 413 too many records, 422 none at all.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    split: Callable[[bytes], Iterator[Line]] = _split_json if media_type == JSON else _split_lines
    lines: list[Line] = []
    for line in split(body):
        if len(lines) == MOST_RECORDS:
            raise too_large(f"the request has more than {MOST_RECORDS} records", {"records": MOST_RECORDS + 1})
        lines.append(line)
    if not lines:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "the body holds no record: send at least one")
    return lines


def about(evaluation_id: UUID, line: Line) -> Line:
    """The line as feedback on this evaluation, which the path names and the record need not."""
    try:
        record = orjson.loads(line.payload)
    except orjson.JSONDecodeError:
        return line
    if not isinstance(record, dict):
        return line
    if "evaluation_id" in record and _same(record["evaluation_id"], evaluation_id):
        return line
    # Put into the text: what was parsed and written again would have lost a field that is there twice.
    named = b'{"evaluation_id":"%b"%b' % (str(evaluation_id).encode(), b"," if record else b"")
    document = named + line.payload.lstrip(_BLANKS)[1:]
    if "evaluation_id" not in record:
        return Line(line.number, line.payload, record=document)
    # With both of them in it, no replay can land it on the one that the path did not name.
    why = Refused("evaluation_id", "evaluation_reference", "is another one than the path names")
    return Line(line.number, line.payload, record=document, refused=why)


def _same(given: object, evaluation_id: UUID) -> bool:
    try:
        return UUID(str(given)) == evaluation_id
    except ValueError:
        return True  # no UUID at all: the contract says so


def _split_lines(body: bytes) -> Iterator[Line]:
    number, begin = 1, 0
    # By its first letter and not line by line, so that millions of blank lines cost nothing.
    while (letter := _NOT_BLANK.search(body, begin)) is not None:
        number += body.count(b"\n", begin, letter.start())
        begin = max(begin, body.rfind(b"\n", begin, letter.start()) + 1)
        end = body.find(b"\n", begin)
        end = len(body) if end < 0 else end
        yield Line(number, body[begin:end].rstrip(b"\r"))
        number, begin = number + 1, end + 1


def _split_json(body: bytes) -> Iterator[Line]:
    first = _NOT_BLANK.search(body)
    if first is None:
        return
    if first.group() != b"[":
        _require_one_document(body.strip(_BLANKS))
        yield Line(1, body.strip(_BLANKS))
        return
    begin = position = first.end()
    depth, number, marks = 1, 0, 0
    while depth:
        marks += 1
        if marks > _MOST_MARKS:
            raise _broken("more brackets than records have", position)
        found = (_BETWEEN_RECORDS if depth == 1 else _WITHIN_A_RECORD).match(body, position)
        mark = found[1] if found else b""
        if found is None or mark in (b"", b'"'):
            what = "a string that never ends" if mark else "the end of the body inside the array"
            raise _broken(what, len(body) if found is None else found.start(1))
        position = found.end()
        if mark in b"[{":
            depth += 1
            continue
        depth -= mark in b"]}"
        if depth == 0 and mark == b"}":
            raise _broken("a } that closes nothing", found.start(1))
        if depth == 0 or mark == b",":
            payload = body[begin : found.start(1)].strip(_BLANKS)
            if payload:
                number += 1
                yield Line(number, payload)
            elif number or mark == b",":
                raise _broken("no record before it", found.start(1))
            begin = position
    after = _NOT_BLANK.search(body, position)
    if after is not None:
        raise _broken("more than one array", after.start())


def _require_one_document(body: bytes) -> None:
    line, _, rest = body.partition(b"\n")
    if not rest:
        return
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return  # one that is written over several lines, or none: the contract says what is wrong
    detail = "the body has more than one JSON document: send it as application/x-ndjson. Nothing was landed"
    raise ProblemError(HTTPStatus.BAD_REQUEST, detail)


def _broken(what: str, position: int) -> ProblemError:
    detail = f"the JSON array can't be told apart: byte {position} has {what}. Nothing was landed"
    return ProblemError(HTTPStatus.BAD_REQUEST, detail, position=position)
