"""Who is told of what, and when: pure rules between an alert's transition and its event, with Alertmanager's meanings.

Belongs here: silences, inhibitions, suppression windows, groups and repeats as values and decisions over them. Does not
belong here: their rows (`silences`, `inhibitions`, `policies`) and what has been told (`notifications`).

A firing that is kept back is told as soon as nothing keeps it back, if the alert still fires; else nobody hears of it.
What ends or corrects a firing is told to whom the firing was told, so never of one that was not. Where it is kept back
itself it is told afterwards: Alertmanager forgets it, and the receiver keeps an incident open that is over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal
from uuid import UUID

from sensors.alerts.matchers import Matcher, fit

Reason = Literal["silence", "inhibition", "window"]
State = Literal["told", "held", "grouped", "dropped"]
Verdict = Literal["tell", "hold", "drop"]

_SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True)
class Policy:
    """How a tenant is told.

    Attributes:
        group_by: labels that make a group, besides the event type, by which endpoints choose; None: no groups.
        group_wait: how long a new group waits for more.
        group_interval: how long after a group was told it is told again of what is new in it.
        repeat_interval: after so long a firing that nobody has acknowledged is told again; None: never.
        suppression_window: so long after a subject was told to fire its next firing is kept back; None: never.
    """

    group_by: tuple[str, ...] | None = None
    group_wait: timedelta = timedelta()
    group_interval: timedelta = timedelta(minutes=5)
    repeat_interval: timedelta | None = None
    suppression_window: timedelta | None = None


@dataclass(frozen=True)
class Silence:
    """A time during which alerts that all matchers fit notify nobody; `ends_at` itself is no longer in it."""

    silence_id: UUID
    matchers: tuple[Matcher, ...]
    starts_at: datetime
    ends_at: datetime

    def holds(self, labels: Mapping[str, str], now: datetime) -> bool:
        """Whether an alert of these labels is silenced now."""
        return self.starts_at <= now < self.ends_at and fit(self.matchers, labels)


@dataclass(frozen=True)
class Inhibition:
    """While a source fires, targets with the same values of the `equal` labels notify nobody."""

    source_matchers: tuple[Matcher, ...]
    target_matchers: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()

    def sources(self, firing: Mapping[UUID, Mapping[str, str]]) -> Mapping[tuple[bool, tuple[str, ...]], UUID]:
        """The first alert that inhibits, by whether its target is a source itself, and by the target's equal labels.

        An alert that is source and target alike isn't inhibited by another such one, and so not by itself.
        """
        found: dict[tuple[bool, tuple[str, ...]], UUID] = {}
        for alert_id, labels in firing.items():
            if fit(self.source_matchers, labels):
                found.setdefault((False, self._equals(labels)), alert_id)
                if not fit(self.target_matchers, labels):
                    found.setdefault((True, self._equals(labels)), alert_id)
        return found

    def key(self, target: Mapping[str, str]) -> tuple[bool, tuple[str, ...]]:
        """Under which of `sources` to look for a target's."""
        return fit(self.source_matchers, target), self._equals(target)

    def _equals(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(labels.get(label, "") for label in self.equal)


@dataclass(frozen=True)
class Muted:
    """Why somebody is not told: the silence, the alert that inhibits, or the suppression window (no identifier)."""

    reason: Reason
    by: UUID | None = None


@dataclass(frozen=True)
class Tenant:
    """All that decides for one tenant at one moment; `firing` are its firing alerts' labels by their identifiers."""

    policy: Policy = Policy()
    silences: Sequence[Silence] = ()
    inhibitions: Sequence[Inhibition] = ()
    firing: Mapping[UUID, Mapping[str, str]] = field(default_factory=dict)

    def muted(self, labels: Mapping[str, str], now: datetime) -> list[Muted]:
        """Every silence that holds for an alert, and of each inhibition the first alert that keeps it back."""
        found = [Muted("silence", silence.silence_id) for silence in self.silences if silence.holds(labels, now)]
        for rule, sources in zip(self.inhibitions, self._sources, strict=True):
            if fit(rule.target_matchers, labels):
                first = sources.get(rule.key(labels))
                found += [Muted("inhibition", first)] if first else []
        return found

    @cached_property
    def _sources(self) -> list[Mapping[tuple[bool, tuple[str, ...]], UUID]]:
        # Once a rule and not once a target: both may be many.
        return [rule.sources(self.firing) for rule in self.inhibitions]

    def in_window(self, told_before: datetime | None, now: datetime) -> bool:
        """Whether the subject's firing before this one was told so recently that this one is kept back."""
        window = self.policy.suppression_window
        return window is not None and told_before is not None and now < told_before + window


def decide(transition: str, *, repeats: bool, firing_was: State | None, is_firing: bool, muted: bool) -> Verdict:
    """What to do with a transition.

    Args:
        transition: `firing`, `resolved`, `amended` or `retracted`.
        repeats: it is a firing that was told before.
        firing_was: what became of the alert's firing so far; None where this is it, and new.
        is_firing: whether the alert still fires.
        muted: whether something keeps it back now.
    """
    if transition == "firing" and not repeats:
        # A new template is over as soon as it is told: it never fires, and is told unless it has to wait.
        if firing_was == "held" and not is_firing:
            return "drop"
    elif firing_was != "told" and not (transition == "amended" and firing_was == "grouped"):
        return "drop"
    return "hold" if muted else "tell"


def group_key(policy: Policy, labels: Mapping[str, str]) -> Mapping[str, str] | None:
    """The labels and values that make an alert's group; None where each transition is told alone."""
    if policy.group_by is None:
        return None
    return {label: labels.get(label, "") for label in ("event_type", *policy.group_by)}


def is_group_due(policy: Policy, first_seen: datetime, flushed_at: datetime | None, now: datetime) -> bool:
    """Whether a group in which something waits since `first_seen` is told now; `flushed_at` None: it is new."""
    if flushed_at is None:
        return now >= first_seen + policy.group_wait
    return now >= flushed_at + policy.group_interval


def severity_rank(severity: str | None) -> int:
    """How much a severity matters; the greater the more."""
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else -1
