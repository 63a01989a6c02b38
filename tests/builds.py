"""Builds in processes of their own, which may be killed at any moment."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from assets.warehouse.build import run_dbt
from storage.database import Database

# Forked from a process that has imported all of it once: the imports of a build take longer than the build.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["assets.warehouse.build", "dbt.cli.main", "dbt.adapters.postgres"])


@contextmanager
def building(database: Database, *arguments: str) -> Iterator[BaseProcess]:
    """A process that runs `dbt ARGUMENTS` on the database while the block runs; waited for at the block's end."""
    process = _FORKS.Process(target=run_dbt, args=(arguments, database))
    process.start()
    try:
        yield process
    finally:
        process.join()
