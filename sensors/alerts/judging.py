"""Observations in their order, led through the alerts of many subjects.

Belongs here: which alert an observation is about, and what late data takes up again. Does not belong here: what becomes
of one alert (`states`), following what is new (`scan`), judging it once more (`replay`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial

from sensors.alerts import store
from sensors.alerts.states import Alert, Observation, Subject, Transition, advance, restate
from sensors.alerts.window_history import contributors, told_again
from sensors.alerts.windows import Late
from storage.database import Connection

Changed = dict[tuple[Subject, int], Alert]
"""Alerts as they are now, by subject and epoch."""


def judge_here(
    connection: Connection, newest: dict[Subject, Alert], judged: Iterable[Observation | Late]
) -> tuple[Changed, list[Transition]]:
    """`judge`, with what was told read from the tables; writes nothing.

    Args:
        connection: in UTC, in the transaction in which the alerts will be saved.
        newest: each subject's newest alert; brought up to date.
        judged: in the order in which they count.
    """
    seen = list(judged)
    read_anew = [
        (one.subject, one.earliest if isinstance(one, Late) else one.ends)
        for one in seen
        if isinstance(one, Late) or one.source == "finding"
    ]
    told: Mapping[tuple[Subject, datetime, datetime], Alert] = {}
    if read_anew:
        subjects = {subject for subject, _ in read_anew}
        told = store.told_alerts(connection, subjects, min(since for _, since in read_anew))
    return judge(newest, told, seen, partial(told_again, connection))


def judge(
    newest: dict[Subject, Alert],
    told: Mapping[tuple[Subject, datetime, datetime], Alert],
    judged: Iterable[Observation | Late],
    reread: Callable[[Alert, Late], Observation | None],
) -> tuple[Changed, list[Transition]]:
    """Lead alerts through observations; touches no table.

    Args:
        newest: each subject's newest alert; brought up to date.
        told: alerts by what was told of them, older ones too: late data may restate that.
        judged: in the order in which they count.
        reread: the mean that an alert has told, with what came late in it (`window_history.told_again`).

    Returns:
        The alerts that changed, as they are now, by subject and epoch, and what is to be told, in order.
    """
    changed: Changed = {}
    transitions = []
    told_means: dict[Subject, dict[int, Alert]] = {}
    for alert in told.values():
        if alert.told_window is not None:
            told_means.setdefault(alert.subject, {})[alert.epoch] = alert

    def settle(before: Alert | None, after: Alert | None, transition: Transition | None) -> None:
        if after is not None and after is not before:
            changed[after.subject, after.epoch] = after
            if after.told_window is not None:
                told_means.setdefault(after.subject, {})[after.epoch] = after
            if after.subject not in newest or newest[after.subject].epoch <= after.epoch:
                newest[after.subject] = after
        if transition is not None:
            transitions.append(transition)

    for seen in judged:
        if isinstance(seen, Late):
            for _, before in sorted(told_means.get(seen.subject, {}).items()):
                again = reread(before, seen)
                if again is not None:
                    settle(before, *restate(before, again))
            continue
        last = newest.get(seen.subject)
        earlier = told.get((seen.subject, seen.starts, seen.ends)) if seen.source == "finding" else None
        if last is not None and earlier is not None and earlier.epoch < last.epoch:
            earlier = changed.get((seen.subject, earlier.epoch), earlier)
            settle(earlier, *restate(earlier, seen))
        else:
            settle(last, *advance(last, seen))
    return changed, transitions


def with_contributors(connection: Connection, changed: Changed, transitions: Iterable[Transition]) -> list[Alert]:
    """The alerts that changed, each that has told a mean now with the worst evaluations of its window."""
    told = {
        (one.alert.subject, one.alert.epoch)
        for one in transitions
        if one.status in ("firing", "amended") and one.alert.told_window is not None
    }
    return [
        replace(alert, contributors=contributors(connection, alert)) if key in told else alert
        for key, alert in changed.items()
    ]
