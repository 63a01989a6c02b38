"""Which version of Tidemark this is."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The installed version; `0` if run from a plain folder."""
    try:
        return version("tidemark")
    except PackageNotFoundError:
        return "0"
