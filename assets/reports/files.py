"""Reports as files: rendered by their suffix, written whole or not at all, the old ones pruned.

Belongs here: paths and bytes. Does not belong here: what is in them (compose.py).
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path

from assets.reports.compose import compose
from assets.reports.document import Document
from assets.reports.html_page import html
from assets.reports.numbers import Report
from assets.reports.pdf_pages import pdf
from storage.errors import TidemarkError, UsageError

RENDERERS: dict[str, Callable[[Document], bytes]] = {".html": html, ".pdf": pdf}
KEPT = 12
LATEST = "latest.html"


@dataclass(frozen=True)
class Written:
    """A report's file. `sha256` is the same as long as the marts are."""

    path: Path
    as_of: date
    bytes: int
    sha256: str


def require_target(path: Path) -> Path:
    """Return the path if a report can be written there.

    Raises:
        UsageError: its suffix isn't one of a report's, or its folder doesn't exist.
    """
    if path.suffix.lower() not in RENDERERS:
        raise UsageError(f"{path}: a report's file ends in {' or '.join(RENDERERS)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: is a folder, or its folder doesn't exist; name a file in a folder that does")
    return path


def write_report(report: Report, path: Path) -> Written:
    """Render a report as its suffix says and put it in place of what was there.

    Raises:
        UsageError: the path isn't one for a report.
        TidemarkError: the file can't be written.
    """
    content = RENDERERS[require_target(path).suffix.lower()](compose(report))
    replace(path, content)
    return Written(path, report.headline.as_of, len(content), sha256(content).hexdigest())


def file_report(report: Report, folder: Path) -> Written:
    """Put a report into its tenant's folder, under its day and as the latest, and remove all but the newest.

    Raises:
        TidemarkError: the folder can't be written to.
    """
    own = folder / report.tenant_id
    try:
        # What is in it is for its tenant, not for everybody who has an account here.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own.mkdir(exist_ok=True)
    except OSError as error:
        raise TidemarkError(f"{own}: can't be made ({error.strerror})") from error
    written = write_report(report, own / f"{report.headline.as_of}.html")
    replace(own / LATEST, written.path.read_bytes())
    for old in sorted(own.glob("????-??-??.html"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return written


def replace(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old one or the new one, whenever they look and whatever fails.

    Raises:
        TidemarkError: the folder or the disk doesn't take it.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise TidemarkError(f"{path}: can't be written ({error.strerror})") from error
