"""`tidemark worker`: one of Celery's workers, for steps of forecasts that a run hands out."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import orchestration.celery
from orchestration.commands.shared import console, platform
from orchestration.executors import forecast_executor
from orchestration.instance import instance_environment
from storage.errors import TidemarkError, UsageError


def worker(
    name: Annotated[str, typer.Option(help="What it is called; each worker of a machine needs a name of its own.")],
    concurrency: Annotated[int, typer.Option(min=1, help="How many steps it runs at once.")] = 1,
) -> None:
    """Run steps of forecasts until Ctrl-C (TIDEMARK_FORECAST_EXECUTOR=celery); any number may run, on any machine."""
    with platform() as opened:
        if opened.settings.forecast_executor != "celery":
            raise UsageError(
                "a worker has nothing to do: forecasts run with the refresh. Set TIDEMARK_FORECAST_EXECUTOR=celery "
                "for it and for `tidemark up`."
            )
        forecast_executor(opened.settings)
        environment = os.environ | instance_environment(opened.settings, opened.database)
        settings_folder = str(Path(orchestration.celery.__file__).parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (settings_folder, os.environ.get("PYTHONPATH"))))
        celery = [*(sys.executable, "-m", "celery", "-A", "dagster_celery.app", "worker"), "--prefetch-multiplier=1"]
        process = subprocess.Popen(
            [*celery, f"--concurrency={concurrency}", f"--hostname={name}@%h", "--loglevel=INFO"], env=environment
        )
        try:
            status = process.wait()
        finally:
            # Of SIGTERM it finishes its step and leaves the others to its fellows.
            process.terminate()
            process.wait()
    if status > 0:
        raise TidemarkError(f"the worker ended by itself with status {status}; its log above says why")
    console.print("Stopped.")
