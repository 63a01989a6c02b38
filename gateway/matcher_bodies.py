"""Matchers in the bodies of silences and inhibitions."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from assets.evaluations.record_fields import Text200
from gateway.admin_bodies import Body
from sensors.alerts.matchers import Label, Matcher, Operator


class MatcherBody(Body):
    """What a label of an alert must be."""

    name: Label
    operator: Operator = "="
    value: Text200


MatcherBodies = Annotated[list[MatcherBody], Field(min_length=1, max_length=20)]


def matchers_of(bodies: Iterable[MatcherBody]) -> tuple[Matcher, ...]:
    """The matchers themselves."""
    return tuple(Matcher(body.name, body.operator, body.value) for body in bodies)
