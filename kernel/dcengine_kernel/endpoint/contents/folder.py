"""Files in a folder of this machine, and nowhere else: links that lead out of it are refused."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from ..refusing import Refused
from .kept import Kept
from .paths import CHECKPOINTS, below, is_engines_own, is_path, is_within, name_of, parent_of
from .places import PIECE, Entry, explained, refuse_forbidden, refuse_missing

KEPT = "this belongs to an engine"
OUT = "it leads out of the folder of files"
ODD = "it is neither a file nor a folder"


class Folder:
    """The files below one folder."""

    def __init__(self, root: str, kept: Kept) -> None:
        self.name, self._kept = root, kept
        self._root = root.rstrip("/") or "/"
        self._moves = threading.Lock()  # between a look whether a name is free and its use

    def look(self, path: str) -> Entry | None:
        real = self._real(path)
        with explained(path):
            try:
                return self._entry(path, real, os.stat(real))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def entries(self, path: str) -> list[Entry]:
        real = self._real(path)
        with explained(path), os.scandir(real) as found:
            return [entry for each in found if (entry := self._listed(path, each)) is not None]

    def open(self, path: str) -> IO[bytes]:
        self._existing(path)  # a pipe without a writer would never open
        return open(self._real(path), "rb")

    def write(self, path: str, data: bytes | IO[bytes]) -> None:
        real = self._real(path)
        with explained(path):
            self.look(path)
            if os.path.exists(real) and not os.access(real, os.W_OK):
                raise refuse_forbidden(path, "it may not be written")
            with _replacing(real) as file:
                if isinstance(data, bytes):
                    file.write(data)
                else:
                    shutil.copyfileobj(data, file, PIECE)

    def copy(self, old: str, new: str) -> None:
        with explained(old), self.open(old) as file:
            self.write(new, file)

    def copy_folder(self, old: str, new: str) -> None:
        source, target = self._real(old), self._real(new)
        if is_within(target, source):
            raise Refused(400, f"{old} cannot be copied into itself")
        with explained(new):
            try:
                # Links stay links: what they lead to may be out of bounds.
                shutil.copytree(source, target, symlinks=True, ignore=self._not_copied)
            except shutil.Error as error:
                shutil.rmtree(target, ignore_errors=True)
                raise Refused(400, f"Can't copy '{old}': {error.args[0][0][2]}") from None
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise

    def make_folder(self, path: str) -> None:
        with explained(path):
            os.mkdir(self._real(path))

    def move(self, old: str, new: str) -> None:
        source, target = self._movable(old), self._itself(new)
        if is_within(target, source) and target != source:
            raise Refused(400, f"{old} cannot be moved into itself")
        if not os.path.isdir(os.path.dirname(target)):
            raise Refused(404, f"No such directory: {parent_of(new)}", "Not Found")
        with self._moves, explained(new):
            if os.path.lexists(target) and not os.path.samestat(os.lstat(target), os.lstat(source)):
                raise FileExistsError(target)
            shutil.move(source, target)

    def remove(self, path: str) -> None:
        with explained(path):
            os.unlink(self._movable(path))

    def discard(self, path: str) -> None:
        from send2trash import send2trash

        real = self._movable(path)
        with explained(path):
            if not os.access(os.path.dirname(real), os.W_OK) or not os.access(real, os.W_OK):
                raise PermissionError(0, "it may not be written")
            try:
                send2trash(real)
            except OSError as error:
                self._remove_for_good(path, real, error)

    def local_path(self, path: str) -> str | None:
        return self._real(path)

    # ---- what a path leads to --------------------------------------------------------------

    def _real(self, path: str) -> str:
        """Return where *path* leads, links followed; raises `Refused` if that is not for front ends."""
        real = os.path.realpath(os.path.join(self._root, path)) if path else self._root
        if not is_within(real, self._root.rstrip("/")):
            raise refuse_forbidden(path, OUT)
        if is_engines_own(path) or is_engines_own(real[len(self._root) :]) or self._kept.holds(real):
            raise refuse_forbidden(path, KEPT)
        return real

    def _itself(self, path: str) -> str:
        """Return where *path* lies, itself no link that is followed."""
        self._real(path)
        return os.path.join(self._real(parent_of(path)), name_of(path))

    def _movable(self, path: str) -> str:
        """Return where *path* lies, which may go away; raises `Refused` if an engine needs what is in it."""
        self._existing(path)
        itself = self._itself(path)
        if os.path.isdir(itself) and not os.path.islink(itself) and self._kept.is_in(itself):
            raise refuse_forbidden(path, "files of an engine lie in it")
        return itself

    def _existing(self, path: str) -> Entry:
        entry = self.look(path)
        if entry is None:
            raise refuse_missing(path)
        return entry

    def _entry(self, path: str, real: str, info: os.stat_result) -> Entry:
        is_folder = stat.S_ISDIR(info.st_mode)
        if not is_folder and not stat.S_ISREG(info.st_mode):
            raise refuse_forbidden(path, ODD)
        if self._kept.holds(real, None if is_folder else info):
            raise refuse_forbidden(path, KEPT)
        created = getattr(info, "st_birthtime", info.st_ctime)
        return Entry(path, is_folder, info.st_size, created, info.st_mtime, os.access(real, os.W_OK))

    def _listed(self, folder: str, found: os.DirEntry[str]) -> Entry | None:
        """Return what is shown of *found*; None if nothing is."""
        path = below(folder, found.name)
        if not is_path(found.name) or is_engines_own(found.name):
            return None
        try:
            if found.is_symlink():
                return self.look(path)
            return self._entry(path, found.path, found.stat())
        except (Refused, OSError):  # also what has gone in the meantime
            return None

    # ---- copies and removals ---------------------------------------------------------------

    def _not_copied(self, folder: str, names: list[str]) -> list[str]:
        return [name for name in names if self._is_odd(os.path.join(folder, name)) or is_engines_own(name)]

    def _is_odd(self, path: str) -> bool:
        """Tell whether *path* is not to be copied: an engine's, or something that would block."""
        info = os.lstat(path)
        is_plain = stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode) or stat.S_ISLNK(info.st_mode)
        return not is_plain or self._kept.holds(path, info)

    def _remove_for_good(self, path: str, real: str, reason: OSError) -> None:
        """Remove *real* where there is no bin; of a folder nothing but an empty one."""
        if os.path.islink(real) or not os.path.isdir(real):
            os.unlink(real)
        elif set(os.listdir(real)) <= {CHECKPOINTS}:
            shutil.rmtree(real)
        else:
            raise Refused(400, f"Directory {path} not empty, and there is no bin for it: {reason}")


@contextmanager
def _replacing(path: str) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of *path* once it is whole and on the disk."""
    folder = os.path.dirname(path)
    partial = os.path.join(folder, f".dcengine-{secrets.token_hex(8)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as file:
            _resemble(descriptor, path)
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _resemble(descriptor: int, path: str) -> None:
    """Give a new file the rights and the owner of the one that it will replace, if there is one."""
    try:
        old = os.stat(path)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
        os.fchown(descriptor, old.st_uid, old.st_gid)
    except (FileNotFoundError, PermissionError):
        pass
