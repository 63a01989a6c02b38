"""Whose days they are.

Belongs here: that name. Does not belong here: the days (`panel`), where they come from (`reading`).
"""

from typing import NamedTuple
from uuid import UUID


class Subject(NamedTuple):
    """A template of a tenant."""

    tenant_id: str
    template_id: UUID
    template: str
