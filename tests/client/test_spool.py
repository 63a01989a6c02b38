"""The spool: what was appended comes back whole, in order and once, whatever happened to the process or the file."""

import resource
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark_client import QueueFullError, SpoolError
from tidemark_client.segments import SUFFIX
from tidemark_client.spool import Spool

CAPACITY = 4096
Lines = st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=30)
Steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.binary(min_size=1, max_size=300)),
        st.tuples(st.just("send"), st.tuples(st.integers(1, 20), st.integers(1, 2000), st.integers(0, 20))),
        st.tuples(st.just("reopen"), st.booleans()),
    ),
    max_size=60,
)


def _everything(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    while lines := spool.peek(7, 500):
        found += lines
        spool.advance(len(lines))
    return found


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


@settings(max_examples=60, deadline=None)
@given(steps=Steps)
def test_it_is_a_queue_that_survives_being_reopened_and_stays_within_its_bytes(steps: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spool = Spool(folder, CAPACITY)
        model: list[bytes] = []
        for step, argument in steps:
            if step == "append":
                assert isinstance(argument, bytes)
                if spool.append(argument):
                    model.append(argument)
                else:
                    assert model
            elif step == "send":
                assert isinstance(argument, tuple)
                records, size, sent = argument
                lines = spool.peek(records, size)
                assert lines == model[: len(lines)]
                assert bool(lines) == bool(model)
                spool.advance(min(sent, len(lines)))
                del model[: min(sent, len(lines))]
            else:
                # Without the close a process that is killed does not do either.
                spool.close() if argument else spool.abandon()
                spool = Spool(folder, CAPACITY)
            assert spool.pending == len(model)
            assert spool.pending_bytes == sum(map(len, model))
            assert sum(path.stat().st_size for path in _segments(folder)) <= CAPACITY
        assert _everything(spool) == model
        spool.close()


@settings(max_examples=40, deadline=None)
@given(lines=Lines, cut=st.floats(0, 1), flip=st.booleans(), zeros=st.integers(0, 40))
def test_of_a_torn_or_damaged_file_the_whole_records_before_come_back(
    lines: list[bytes], cut: float, flip: bool, zeros: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spool = Spool(folder, 1024 * 1024)
        for line in lines:
            assert spool.append(line)
        spool.abandon()
        (path,) = _segments(folder)
        data = bytearray(path.read_bytes())
        at = 8 + int(cut * (len(data) - 8))
        if flip and at < len(data):
            data[at] ^= 0x10
        else:
            del data[at:]
        path.write_bytes(bytes(data) + bytes(zeros))

        spool = Spool(folder, 1024 * 1024)
        # Eight bytes before each record, and eight before all: those that end before the damage.
        ends = [8 + sum(8 + len(line) for line in lines[: count + 1]) for count in range(len(lines))]
        whole = [line for line, end in zip(lines, ends, strict=True) if end <= at]
        assert spool.append(b"fresh")
        assert _everything(spool) == [*whole, b"fresh"]
        spool.close()
        # What could not be read is kept for whoever wants to look.
        torn = len(data) + zeros > (ends[len(whole) - 1] if whole else 8)
        assert bool(list(folder.glob("*.damaged"))) == torn


@pytest.mark.parametrize("position", ["", "garbage", "1 9\n", "1 0\n", "1 999999\n", "7 8\n"])
def test_a_position_that_is_lost_or_wrong_sends_again_and_loses_nothing(tmp_path: Path, position: str) -> None:
    spool = Spool(tmp_path, CAPACITY)
    assert all(spool.append(line) for line in (b"a", b"b", b"c"))
    spool.peek(1, 100)
    spool.advance(1)
    spool.close()
    (tmp_path / "position").write_text(position)
    spool = Spool(tmp_path, CAPACITY)
    assert _everything(spool) == [b"a", b"b", b"c"]
    spool.close()


def test_one_client_a_spool_and_the_other_is_told_whose_it_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", CAPACITY)
    with pytest.raises(SpoolError, match=r"in use by process \d+"):
        Spool(tmp_path / "spool", CAPACITY)
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    spool.append(b"a")
    assert all(path.stat().st_mode & 0o077 == 0 for path in _segments(tmp_path / "spool"))
    spool.close()
    Spool(tmp_path / "spool", CAPACITY).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="can't be used"):
        Spool(tmp_path / "file", CAPACITY)


def test_a_record_larger_than_the_spool_is_refused_and_one_as_large_waits_for_the_rest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, CAPACITY)
    with pytest.raises(QueueFullError, match="spool_bytes"):
        spool.append(b"x" * CAPACITY)
    assert spool.append(b"a")
    assert not spool.append(b"x" * (CAPACITY - 16))
    assert _everything(spool) == [b"a"]
    assert spool.append(b"x" * (CAPACITY - 16))
    spool.close()


def test_a_full_disk_refuses_a_record_and_the_next_is_taken_once_there_is_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, CAPACITY)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The one limit that a process can set itself: writes fail as on a full disk, here at the segment's first bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, usual[1]))
    try:
        with pytest.raises(SpoolError):
            spool.append(b"a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert spool.append(b"b")
    assert _everything(spool) == [b"b"]
    spool.close()
