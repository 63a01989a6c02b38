"""Structured logs: readable on a terminal, JSON elsewhere, never a secret."""

import logging
import sys

import structlog

from storage.settings import Settings


def configure_logging(settings: Settings, level: int = logging.INFO) -> None:
    """Set up structlog for this process; `correlation_id`, `tenant` and `batch_id` come from bound context.

    Args:
        settings: say in which form.
        level: what is left out below it; a command that tells its user what it did itself needs no more than warnings.
    """
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
