"""What lies in the drop folder: `TENANT/*` and `TENANT/feedback/*`, on this machine or in an object store.

Belongs here: names, places and marks. Does not belong here: what has landed of them.
"""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast

from assets.evaluations.files import Format, format_of, is_packed
from assets.evaluations.verdicts import Kind
from storage.errors import UsageError

_FEEDBACK = "feedback"
# Of programs that write under another name first (rsync, curl, Spark's _temporary and _SUCCESS).
_UNFINISHED = (".tmp", ".part")
_NOT_FOR_US = (".", "_")
# With who may read it, so that what could not be read is tried again when it can be.
_LOCAL_MARK = ("size", "mtime", "ino", "mode", "uid", "gid")


@dataclass(frozen=True, slots=True)
class DroppedFile:
    """A file that can land.

    Attributes:
        tenant_id: whose folder it lies in.
        path: relative to the drop folder, the tenant's folder included.
        kind: what its records are, by its folder.
        file_format: by its suffix.
        size: in bytes, as it lies there.
        mark: changes when the file does.
    """

    tenant_id: str
    path: str
    kind: Kind
    file_format: Format
    size: int
    mark: str

    @property
    def grows(self) -> bool:
        """Whether what is appended to it can be told from what was there."""
        return self.file_format is not Format.PARQUET and not is_packed(self.path)


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """Something in the folder that will not land, and why."""

    path: str
    reason: str


class DropFolder:
    """A folder of which nothing is known but how to list it and how to open what is in it."""

    def __init__(self, address: str) -> None:
        """Find the folder's file system.

        Args:
            address: a local path, or a URL whose protocol fsspec knows and whose package is installed.

        Raises:
            UsageError: the protocol is unknown, or its package is missing.
        """
        from upath import UPath

        self.address = address
        try:
            path = UPath(address).expanduser()
            self._files, self._root = path.fs, path.path.rstrip("/")
        except (ImportError, ValueError) as error:
            raise UsageError(
                f"TIDEMARK_DROP_FOLDER={address}: {error}. Install that package where Tidemark runs, or give the path "
                "of a local folder."
            ) from error
        self.is_local = "file" in self._files.protocol

    def exists(self) -> bool:
        """Whether there is such a folder."""
        self._files.invalidate_cache()
        return bool(self._files.isdir(self._root))

    def contents(self, tenants: Collection[str]) -> tuple[list[DroppedFile], list[LeftAlone]]:
        """What can land, and what is left alone although somebody may wait for it; both in the order of their paths.

        Args:
            tenants: the tenants that there are.
        """
        self._files.invalidate_cache()
        found: list[DroppedFile] = []
        left: list[LeftAlone] = []
        for name, info in self._entries("", left):
            if problem := _no_folder_of(name, info, tenants):
                left.append(LeftAlone(_readable(name), problem))
                continue
            for inner, inner_info in self._entries(name, left):
                path = f"{name}/{inner}"
                if inner == _FEEDBACK and _is_folder(inner_info):
                    for innermost, info_of_it in self._entries(path, left):
                        self._add(found, left, name, f"{path}/{innermost}", "feedback", info_of_it)
                else:
                    self._add(found, left, name, path, "evaluations", inner_info)
        return found, left

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; on this machine never through a symbolic link.

        Raises:
            OSError: it can't be opened.
        """
        if self.is_local:
            return cast(BinaryIO, open(path, "rb", opener=partial(_without_following, self._root)))
        return cast(BinaryIO, self._files.open(f"{self._root}/{path}", "rb"))

    def _entries(self, folder: str, left: list[LeftAlone]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        full = f"{self._root}/{folder}".rstrip("/") or "/"
        try:
            listed = self._files.ls(full, detail=True)
        except FileNotFoundError:
            return
        except OSError as error:
            left.append(LeftAlone(folder, f"can't be listed: {error.strerror or error}"))
            return
        for info in sorted(listed, key=lambda info: str(info["name"])):
            name = str(info["name"]).rstrip("/").rpartition("/")[2]
            # An object store lists a folder's own marker inside the folder.
            is_itself = str(info["name"]).strip("/") == full.strip("/")
            if name and not is_itself and not name.startswith(_NOT_FOR_US) and not name.endswith(_UNFINISHED):
                yield name, info

    def _add(
        self,
        found: list[DroppedFile],
        left: list[LeftAlone],
        tenant: str,
        path: str,
        kind: Kind,
        info: Mapping[str, Any],
    ) -> None:
        file_format = format_of(path)
        if problem := _no_file_to_land(path, info):
            left.append(LeftAlone(_readable(path), problem))
        elif file_format is None:
            left.append(LeftAlone(path, "its suffix is none of .ndjson, .jsonl, .csv (also .gz), .parquet"))
        else:
            found.append(DroppedFile(tenant, path, kind, file_format, int(info["size"] or 0), self._mark(info)))

    def _mark(self, info: Mapping[str, Any]) -> str:
        # A store tells of an object's entity tag, generation or time, each under names of its own.
        told = _LOCAL_MARK if self.is_local else sorted(set(info) - {"name", "type"})
        return hashlib.sha256(repr([(key, str(info.get(key))) for key in told]).encode()).hexdigest()


def _no_folder_of(name: str, info: Mapping[str, Any], tenants: Collection[str]) -> str | None:
    if info.get("islink"):
        return "is a symbolic link, and none is followed"
    if not _is_folder(info):
        return "lies in no tenant's folder: put it into one that is named as the tenant is"
    return None if name in tenants else f"no tenant has this name: tidemark tenant create {name!r}"


def _no_file_to_land(path: str, info: Mapping[str, Any]) -> str | None:
    if info.get("islink"):
        return "is a symbolic link, and none is followed"
    if info["type"] == "directory":
        return f"is a folder, and only {_FEEDBACK} is looked into"
    if info["type"] != "file":
        return "is not a regular file"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return None


def _readable(path: str) -> str:
    return path.encode(errors="replace").decode()


def _is_folder(info: Mapping[str, Any]) -> bool:
    return info["type"] == "directory" and not info.get("islink")


def _without_following(root: str, path: str, flags: int) -> int:
    # A link laid down after the listing would open any file of this machine, or of another tenant; one in place of a
    # folder on the way too.
    *folders, name = path.split("/")
    folder = os.open(root or "/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # And without waiting for the other end, should it have become a pipe.
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
