"""Where the dbt project is, and its manifest: parsed once for each content of the project, then kept.

Parsing costs seconds and its result depends on nothing but the project's files, dbt's version and the database's name
(dbt writes that name into every relation), so the manifest is kept under a hash of these.

Belongs here: making and finding the manifest. Does not belong here: running models (`build`).
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from assets.warehouse.dbt_runner import DbtFailedError, invoke_dbt
from storage.postgres_url import PostgresUrl
from storage.settings import PROJECT_ROOT, load_settings

PROJECT_DIR = PROJECT_ROOT / "dbt_project"
DEFAULT_DATABASE = "tidemark"
_KEPT_MANIFESTS = 8
_OUTPUT_FOLDERS = ("target", "logs")


@dataclass(frozen=True)
class KeptManifest:
    """A parsed project on disk."""

    folder: Path

    def read(self) -> Mapping[str, Any]:
        """The manifest as plain data: what Dagster's definitions are made from."""
        content: Mapping[str, Any] = orjson.loads((self.folder / "manifest.json").read_bytes())
        return content

    def packed(self) -> bytes:
        """The manifest in dbt's own format: what a dbt command starts from instead of parsing."""
        return (self.folder / "partial_parse.msgpack").read_bytes()


def kept_manifest(database_name: str = DEFAULT_DATABASE, project_dir: Path = PROJECT_DIR) -> KeptManifest:
    """The manifest of the project as its files are now; parsed first if they have changed.

    Safe when several processes ask at once: one parses, the others wait for it.

    Raises:
        DbtFailedError: the project doesn't parse; the message is dbt's.
    """
    shelf = _shelf(project_dir)
    folder = shelf / project_digest(database_name, project_dir)
    with _locked(shelf / ".lock"):
        if folder.is_dir():
            os.utime(folder)
        else:
            _parse_into(folder, database_name, project_dir)
            _discard_oldest(shelf)
    return KeptManifest(folder)


def project_digest(database_name: str, project_dir: Path = PROJECT_DIR) -> str:
    """A hash of everything that a manifest depends on."""
    digest = blake2b(digest_size=12)
    for part in (database_name, version("dbt-core"), version("dbt-postgres"), str(project_dir)):
        digest.update(part.encode() + b"\0")
    for path in sorted(project_dir.rglob("*")):
        relative = path.relative_to(project_dir)
        if path.is_file() and relative.parts[0] not in _OUTPUT_FOLDERS and not relative.name.startswith("."):
            content = path.read_bytes()
            digest.update(f"{relative.as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _shelf(project_dir: Path) -> Path:
    # Beside the project every home shares it; an installation that may not be written to keeps it in its home.
    beside = project_dir / "target" / "kept"
    try:
        beside.mkdir(parents=True, exist_ok=True)
    except OSError:
        writable = False
    else:
        writable = os.access(beside, os.W_OK)
    if writable:
        return beside
    at_home = load_settings().home / "dbt"
    at_home.mkdir(parents=True, exist_ok=True)
    return at_home


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _parse_into(folder: Path, database_name: str, project_dir: Path) -> None:
    # Nobody listens at this address: parsing asks no database, it only needs the name.
    nowhere = PostgresUrl("localhost", 5432, "postgres", "", database_name)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".parsing-") as workshop:
        target = Path(workshop) / "target"
        outcome = invoke_dbt(["parse"], nowhere, target_path=target, project_dir=project_dir)
        if outcome.error is not None:
            raise DbtFailedError(f"the dbt project in {project_dir} does not parse: {outcome.error}")
        # By rename, so that a killed parser leaves no half manifest under a valid name.
        target.rename(folder)


def _discard_oldest(shelf: Path) -> None:
    kept = [path for path in shelf.iterdir() if path.is_dir() and not path.name.startswith(".")]
    kept.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[_KEPT_MANIFESTS:]:
        shutil.rmtree(path, ignore_errors=True)
