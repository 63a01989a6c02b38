"""Zips the dashboard in `tidemark/` for Superset: `python deploy/superset/bundle.py tidemark.zip`.

With TIDEMARK_READER_URL in the environment (`postgresql://acme_bi:…@host:5432/tidemark`) the bundle connects by it and
holds its password: such a zip is readable by its owner alone. Without, it holds a placeholder, and Superset's page
asks for the password. The same files give the same bytes.

Belongs here: packing. Does not belong here: what the dashboard shows (the YAML files). Needs nothing but Python.
"""

import argparse
import json
import os
import re
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

FOLDER = Path(__file__).resolve().parent / "tidemark"
_CONNECTION = re.compile(r"^sqlalchemy_uri: .*$", re.MULTILINE)
_TYPE = re.compile(r"^type: Dashboard$", re.MULTILINE)


def write_bundle(target: Path, url: str | None = None, *, renew: bool = False) -> None:
    """Write the bundle.

    Args:
        target: the zip file, overwritten if it exists.
        url: the reader's address; None leaves the placeholder.
        renew: as Superset's type `assets`, whose import replaces charts, datasets and connection that stand.

    Raises:
        ValueError: renew without an address would replace a connection that works by the placeholder.
    """
    if renew and not url:
        raise ValueError("a bundle that renews replaces the connection too: set TIDEMARK_READER_URL")
    if url:
        target.touch(mode=0o600)
        target.chmod(0o600)
    with ZipFile(target, "w", ZIP_DEFLATED) as bundle:
        for path in sorted(FOLDER.rglob("*.yaml")):
            content = path.read_text(encoding="utf-8")
            if url and path.parent.name == "databases":
                content = _CONNECTION.sub(lambda _: f"sqlalchemy_uri: {json.dumps(_with_driver(url))}", content)
            if renew and path.name == "metadata.yaml":
                content = _TYPE.sub("type: assets", content)
            # A fixed time, or the bytes would differ from one checkout to the next.
            entry = ZipInfo((Path(FOLDER.name) / path.relative_to(FOLDER)).as_posix())
            entry.compress_type = ZIP_DEFLATED
            bundle.writestr(entry, content)


def _with_driver(url: str) -> str:
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Zip the dashboard for Superset.")
    parser.add_argument("target", type=Path, help="the zip file to write")
    parser.add_argument("--renew", action="store_true", help="for /api/v1/assets/import/: replace what stands")
    arguments = parser.parse_args()
    try:
        write_bundle(arguments.target, os.environ.get("TIDEMARK_READER_URL"), renew=arguments.renew)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
