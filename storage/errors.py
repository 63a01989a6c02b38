"""Errors a user can act on. Each message says what is wrong and what to do about it."""


class TidemarkError(Exception):
    """Base of every error that Tidemark raises on purpose; the command line prints its text and exits with 1."""


class UsageError(TidemarkError):
    """The request itself is wrong (a missing file, an unknown tenant, a bad option); the command line exits with 2."""


class NotFoundError(UsageError):
    """There is nothing of this identifier, or it is another tenant's: the two read alike.

    Attributes:
        kind: what was looked for, such as `webhook`.
    """

    def __init__(self, kind: str, identifier: object, remedy: str) -> None:
        super().__init__(f"unknown {kind} {identifier}: {remedy}")
        self.kind = kind


class ConflictError(UsageError):
    """The request is right, but not in the state that things are in."""


class DatabaseUnavailableError(TidemarkError):
    """PostgreSQL can't be reached or can't be started."""


class MigrationError(TidemarkError):
    """The database's schema isn't one that this version of Tidemark can work with."""
