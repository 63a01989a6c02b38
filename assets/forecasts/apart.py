"""Replaying parts of the fleet apart from each other, so that several processes or machines share it.

What they leave behind is memory, which is a short cut and no more: the run that judges takes what still holds, and
replays by itself what is missing or has changed since.

Belongs here: what a part replays and what it takes from the fleet. Does not belong here: who runs the parts (assets).
"""

from datetime import date

from assets.forecasts import replay, stored
from assets.forecasts.forecasting import read_standing
from assets.forecasts.judging import lessons_of
from assets.forecasts.panel import Bools, Measure
from assets.forecasts.reading import read_histories
from assets.forecasts.replay import RECALLED, block_of
from assets.forecasts.wide import connect_wide
from storage.database import Database


def learn_lessons(database: Database, today: date, measure: Measure) -> bool:
    """See to it that what parts need of the fleet is stored; returns whether it had to be learnt."""
    block = block_of(today)
    with connect_wide(database) as connection:
        calibrations = stored.read_calibrations(connection, measure, today)
        if lessons_of(block, calibrations, stored.read_lessons(connection, measure, block)):
            return False
        standing = read_standing(connection, read_histories(connection, today), measure, today)
        if standing is None:
            return False
        stored.write_lessons(connection, measure, block, replay.learn(standing.panel, block))
    return True


def replay_part(database: Database, today: date, measure: Measure, part: int, parts: int) -> int:
    """Replay those templates of a part of which yesterday isn't remembered; returns how many they were.

    Args:
        database: the platform's.
        today: the current UTC date.
        measure: which of the two.
        part: from 0.
        parts: into how many the fleet is cut.
    """
    with connect_wide(database) as connection:
        standing = read_standing(connection, read_histories(connection, today, part, parts), measure, today)
    if standing is None:
        return 0
    lessons = lessons_of(block_of(today), standing.calibrations, standing.lessons)
    if lessons is None:
        return 0
    panel, memory, decided = standing.panel, standing.memory, standing.decided
    behind: Bools = memory.days < today.toordinal() - 1
    if not behind.any():
        return 0
    panel, memory, decided = panel.of(behind), memory.of(behind), decided.of(behind)
    columns = panel.values.shape[1]
    first = max(columns - RECALLED, replay.column_of(panel, memory.block), 0)
    replayed = replay.replay(panel, memory.block, lessons.fleet, first, columns, memory, decided.serving)
    remembered = replay.remember(panel, memory.block, replayed)
    with connect_wide(database) as connection:
        stored.one_writer(connection)
        stored.write_memory(connection, measure, panel, remembered, decided.memory_hashes(panel)[:, -1])
    return int(behind.sum())
