"""Errors a user can act on. Each message says what is wrong and what to do about it."""


class TidemarkError(Exception):
    """Base of every error that Tidemark raises on purpose; the command line prints its text and exits with 1."""


class UsageError(TidemarkError):
    """The request itself is wrong (a missing file, an unknown tenant, a bad option); the command line exits with 2."""


class DatabaseUnavailableError(TidemarkError):
    """PostgreSQL can't be reached or can't be started."""


class MigrationError(TidemarkError):
    """The database's schema isn't one that this version of Tidemark can work with."""
