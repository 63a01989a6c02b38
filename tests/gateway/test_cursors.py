"""Cursors come back as they went, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cursors import CursorError, Position, read_cursor, write_cursor

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
positions = st.builds(
    Position, keys=st.lists(words, max_size=4).map(tuple), since=st.none() | st.dates().map(lambda day: day.isoformat())
)
queries = st.lists(words, min_size=1, max_size=4)
LETTERS = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ é")


@given(position=positions, query=queries)
def test_a_cursor_means_the_position_it_was_written_for(position: Position, query: list[str]) -> None:
    assert read_cursor(write_cursor(position, query), query) == position


@given(position=positions, query=queries, where=st.integers(0, 500), letter=LETTERS)
def test_a_cursor_with_any_letter_changed_left_out_or_added_is_refused(
    position: Position, query: list[str], where: int, letter: str
) -> None:
    text = write_cursor(position, query)
    where %= len(text)
    for changed in (
        text[:where] + letter + text[where + 1 :],
        text[:where] + text[where + 1 :],
        text[:where] + letter + text[where:],
    ):
        if changed != text:
            with pytest.raises(CursorError):
                read_cursor(changed, query)


@given(position=positions, query=queries, other=queries)
def test_a_cursor_of_another_query_is_refused(position: Position, query: list[str], other: list[str]) -> None:
    if query != other:
        with pytest.raises(CursorError):
            read_cursor(write_cursor(position, query), other)


@given(text=st.text(max_size=60))
def test_no_text_breaks_the_reading(text: str) -> None:
    with pytest.raises(CursorError):
        read_cursor(text, ["acme"])
