"""MyBookshelf2's book folder: files placed as links or copies, never over anything that is there.

Only files are linked, never folders: the application deletes and purges through linked folders. A
file appears under its final name at once or not at all.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from bookpipe.model.book_plans import Content, Placement
from bookpipe.model.errors import ConfigError
from bookpipe.targets.mybookshelf2.files import (
    NameTakenError,
    have_same_bytes,
    sha1_of,
    sync_file_system,
    translate,
    write_new,
)

MODES = ("symlink", "hardlink", "copy")
# How the journal names files to remove after an undo, and what they are besides a source's "size:sha1".
UNDONE, COVER, THUMB = "undo", "cover", "thumbnail"
CONTENT = "content"  # how the journal names files of bytes that came with the load, in any mode: "size:sha1"
CONTENT_THREADS = 2  # that write such files: more only wait for each other
SYNC_PAUSE_S = 0.03
PART = ".bookpipe-part"  # suffix of a copy that is not complete yet
THUMBS = "../thumbs"  # the folder of thumbnails as a location: it is beside the book folder


class BookFolder:
    """The folder `books` under the application's data directory."""

    def __init__(self, data_dir: Path, mode: str = "symlink", link_prefix: tuple[str, str] | None = None) -> None:
        if mode not in MODES:
            raise ConfigError(f"BOOKPIPE_FILE_MODE is {mode!r}; it must be one of {', '.join(MODES)}.")
        self.root = os.path.abspath(data_dir / "books")
        self.thumbs = os.path.abspath(data_dir / "thumbs")
        self.mode = mode
        self.link_prefix = link_prefix

    def check(self) -> None:
        """Raise ConfigError unless the folder is there and writable."""
        if not os.path.isdir(self.root):
            raise ConfigError(
                f"{self.root} is no folder: set BOOKPIPE_MYBOOKSHELF2_DATA_DIR to MyBookshelf2's data directory (the "
                "one that holds books, thumbs, uploads and converted)."
            )
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise translate(PermissionError(errno.EACCES, "no right to write"), self.root)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against the other loaders of this machine for as long as this process lives.

        The loader lock in the database ends when the connection breaks; this process may be placing files still.
        """
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def full_path(self, location: str) -> str:
        """Where a location is. The book folder may be a link: what is beside it is not found through it."""
        if location == THUMBS or location.startswith(THUMBS + "/"):
            return self.thumbs + location[len(THUMBS) :]
        return f"{self.root}/{location}"

    def link_target(self, path: bytes) -> bytes:
        """What a symbolic link to `path` says: its absolute path as the application's container sees it."""
        if self.link_prefix:
            host, inside = (os.fsencode(p) for p in self.link_prefix)
            if path == host or path.startswith(host + b"/"):
                return inside + path[len(host) :]
        return path

    def host_target(self, target: bytes) -> bytes:
        """The reverse of `link_target`: where a link's text leads on this host."""
        if self.link_prefix:
            host, inside = (os.fsencode(p) for p in self.link_prefix)
            if target == inside or target.startswith(inside + b"/"):
                return host + target[len(inside) :]
        return target

    def host_path(self, location: str) -> bytes:
        """Where the file at a location is on this host, one link followed."""
        full = os.fsencode(self.full_path(location))
        if self.link_prefix and os.path.islink(full):
            return self.host_target(os.readlink(full))
        return full

    def is_taken(self) -> Callable[[str], bool]:
        """A test whether something is at a relative path already, or a link or file stands in its way."""
        kind = self._kinds()

        def taken(path: str) -> bool:
            parent = kind(path.rpartition("/")[0])
            return parent != "nothing" and (parent != "folder" or os.path.lexists(self.full_path(path)))

        return taken

    def _kinds(self) -> Callable[[str], str]:
        """What is at a relative path: "folder", "nothing", or "in the way": a link or file there, or above it."""
        # The two folders themselves may be links: where they are is their owner's affair.
        kinds: dict[str, str] = {"": "folder", THUMBS: "folder"}

        def kind(folder: str) -> str:
            found = kinds.get(folder)
            if found is None:
                found = kind(folder.rpartition("/")[0])
                if found == "folder":
                    try:
                        is_folder = stat.S_ISDIR(os.lstat(self.full_path(folder)).st_mode)
                        found = "folder" if is_folder else "in the way"
                    except FileNotFoundError:
                        found = "nothing"
                kinds[folder] = found
            return found

        return kind

    def stands_for(self, location: str, path: bytes, size: int) -> bool:
        """Whether the file at `location` is the link or copy that placing `path` would make."""
        full = os.fsencode(self.full_path(location))
        try:
            status = os.lstat(full)
            if self.mode == "symlink":
                return stat.S_ISLNK(status.st_mode) and os.readlink(full) == self.link_target(path)
            if self.mode == "hardlink":
                return os.path.samestat(status, os.stat(path))  # a link in the library is followed, as by `place`
            return stat.S_ISREG(status.st_mode) and status.st_size == size
        except OSError:
            return False

    def is_dangling(self, location: str) -> bool:
        """Whether at `location`, and not below a linked folder, is a link of bookpipe's that leads to nothing."""
        try:
            target = os.readlink(os.fsencode(self.full_path(location)))
        except OSError:  # no link
            return False
        if not target.startswith(b"/") or os.path.lexists(self.host_target(target)):
            return False
        return self._kinds()(os.path.dirname(location)) == "folder"

    def has_file(self, location: str, size: int) -> bool:
        """Whether a regular file of this size is at `location`."""
        try:
            status = os.lstat(self.full_path(location))
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == size

    def may_replace(self, location: str, contents: Collection[tuple[str, int]]) -> bool:
        """Whether what is at `location` can only be bookpipe's: nothing, a symbolic link (the application makes
        none), or a file with one of these contents (SHA-1, size). Never so through a linked folder."""
        if self._kinds()(os.path.dirname(location)) == "in the way":
            return False
        full = self.full_path(location)
        try:
            status = os.lstat(full)
            if stat.S_ISLNK(status.st_mode):
                return True
            wanted = {sha1 for sha1, size in contents if size == status.st_size}
            return stat.S_ISREG(status.st_mode) and bool(wanted) and sha1_of(full) in wanted
        except FileNotFoundError:
            return True
        except OSError as error:
            raise translate(error, full) from error

    def place(self, placements: Sequence[Placement]) -> None:
        """Put every file at its location: all of them, or none.

        Raises NameTakenError when something is there already.
        """
        owner = self._owner()
        made: set[str] = set()
        placed: list[Placement] = []
        try:
            if any(placement.content for placement in placements):
                self._place_contents(placements, made, owner, placed)
                return
            for placement in placements:
                self._place_one(placement, made, owner)
                placed.append(placement)
        except BaseException:
            self.take_back(placed)
            self.remove_empty(made)
            raise

    def _place_contents(
        self, placements: Sequence[Placement], made: set[str], owner: tuple[int, int] | None, placed: list[Placement]
    ) -> None:
        """Write files in threads, and sync: their rows must not outlive them when the power fails.

        Syncing begins while there is more to write, so that little is left to wait for at the end.
        """
        parts: list[list[Placement]] = [[] for _ in range(CONTENT_THREADS)]
        for placement in placements:  # what shares a first folder stays together
            parts[hash(placement.location.partition("/")[0]) % len(parts)].append(placement)
        failed = False

        def write(some: Sequence[Placement]) -> None:
            nonlocal failed
            try:
                for placement in some:
                    if failed:
                        return
                    self._place_one(placement, made, owner)
                    placed.append(placement)
            except BaseException:
                failed = True
                raise

        with ThreadPoolExecutor(CONTENT_THREADS, "write_files") as pool:
            writing = [pool.submit(write, part) for part in parts]
            pause = SYNC_PAUSE_S
            try:
                while wait(writing, pause).not_done:
                    pause = max(SYNC_PAUSE_S, self._sync())  # half of the time at most, however slow the disk is
            except BaseException:
                failed = True
                raise
        for part in writing:
            part.result()
        self._sync()

    def _sync(self) -> float:
        """Have everything on the disk. Returns the seconds that took."""
        started = time.monotonic()
        try:
            sync_file_system(self.root)
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self.thumbs).st_dev != os.stat(self.root).st_dev:
                    sync_file_system(self.thumbs)
        except OSError as error:
            raise translate(error, self.root) from error
        return time.monotonic() - started

    def _owner(self) -> tuple[int, int] | None:
        """Who new folders and files with content must belong to: the application writes covers and uploads into the
        ones, and over the others. None: this user."""
        status = os.stat(self.root)
        return (status.st_uid, status.st_gid) if os.geteuid() == 0 and status.st_uid != 0 else None

    def _make_folder(self, folder: str, made: set[str], owner: tuple[int, int] | None) -> None:
        parent = os.path.dirname(folder)
        if parent and folder != THUMBS and parent not in made:
            self._make_folder(parent, made, owner)
        full = self.full_path(folder)
        try:
            os.mkdir(full)
            if owner:
                os.chown(full, *owner)
        except FileExistsError:
            if not (stat.S_ISDIR(os.lstat(full).st_mode) or (folder == THUMBS and os.path.isdir(full))):
                raise NameTakenError(f"{full} is there already and no folder: another name is chosen.") from None
        except OSError as error:
            raise translate(error, full) from error
        made.add(folder)

    def _place_one(self, placement: Placement, made: set[str], owner: tuple[int, int] | None) -> None:
        folder = os.path.dirname(placement.location)
        if folder not in made:
            self._make_folder(folder, made, owner)
        full = self.full_path(placement.location)
        try:
            if placement.content or self.mode == "copy":
                with self._part_of(full) as part:
                    self._make(part, placement.path, placement.content, owner)
                    self._put(part, full)
            else:
                self._make(full, placement.path)
        except FileExistsError:
            raise NameTakenError(f"{full} was taken a moment ago: another name is chosen.") from None
        except OSError as error:
            raise translate(error, full) from error

    @staticmethod
    @contextlib.contextmanager
    def _part_of(full: str) -> Iterator[str]:
        """A free name for what becomes `full`, free again when that fails."""
        part = full + PART
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)  # a left-over, which may be a link, through which nothing is written
        try:
            yield part
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise

    def _make(
        self, full: str, path: bytes, content: Content | None = None, owner: tuple[int, int] | None = None
    ) -> None:
        """A new file of these bytes, or one that stands for `path`."""
        if content:
            write_new(content, full, owner)
        elif self.mode == "symlink":
            os.symlink(self.link_target(path), os.fsencode(full))
        elif self.mode == "hardlink":
            os.link(os.path.realpath(path), os.fsencode(full))  # link() does not follow links, whatever it is told
        else:
            shutil.copyfile(path, os.fsencode(full))

    @staticmethod
    def _put(part: str, full: str) -> None:
        try:
            os.link(part, full)  # unlike rename, a link never replaces what is there
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            os.close(os.open(full, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # a file system without hard links
            os.replace(part, full)
        else:
            os.unlink(part)

    def replace(self, location: str, path: bytes, content: Content | None = None) -> None:
        """Let a file bookpipe placed stand for `path` or have `content` from now on; it is never missing in between."""
        full = self.full_path(location)
        self._make_folder(os.path.dirname(location), set(), self._owner())
        try:
            with self._part_of(full) as part:
                self._make(part, path, content)
                os.replace(part, full)
        except OSError as error:
            raise translate(error, full) from error

    def take_back(self, placements: Sequence[Placement]) -> None:
        """Remove what `place` put there a moment ago, and the folders that are empty then."""
        for placement in placements:
            if placement.content:
                stands = self.has_file(placement.location, placement.size)
            else:
                stands = self.stands_for(placement.location, placement.path, placement.size)
            if stands:
                self._unlink(placement.location)
        self.remove_empty({os.path.dirname(placement.location) for placement in placements})

    def remove_leftovers(self, mode: str, files: Sequence[tuple[str, str]]) -> int:
        """Remove what a load that died had placed, and the folders that are empty then; how many files it was.

        `files` as Journal.plan_placement had them. How far that load came is not known, so somebody else's file
        may be at any of these names by now: a copy is removed only while it has the bytes of its original.
        """
        removed = 0
        # What links said is announced: it needs no translation.
        placed = None if mode == CONTENT else BookFolder(Path(self.root).parent, mode)
        kind = self._kinds()
        for location, stood_for in files:
            if kind(os.path.dirname(location)) != "folder":
                continue
            full = self.full_path(location)
            size, _, name = stood_for.partition(":")
            unfinished = self._unlink(location + PART)
            if placed is None:
                stands = self.has_file(location, int(size)) and sha1_of(full) == name
            else:
                path = bytes.fromhex(name)
                stands = placed.stands_for(location, path, int(size))
                if stands and mode == "copy":
                    stands = have_same_bytes(full, path)
            # Where hard links are impossible a copy's name is taken first, by an empty file.
            if stands or (unfinished and mode in ("copy", CONTENT) and self.has_file(location, 0)):
                removed += self._unlink(location)
        self.remove_empty(dict.fromkeys(os.path.dirname(location) for location, _ in files))
        return removed

    def existing(self, files: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of `files`, (location, what it is), that are there."""
        return [file for file in files if os.path.lexists(self.full_path(file[0]))]

    def may_remove(self, location: str, what: str) -> bool:
        """Whether a file whose row is gone may go, too: a cover or thumbnail of the application, or a source's file
        that still is what the row said."""
        if what == THUMB:  # beside the book folder, and named by an id that is never given again
            return True
        if location.startswith("/") or ".." in location.split("/"):
            return False
        if what == COVER:
            in_place = self._kinds()(os.path.dirname(location)) == "folder"
            return in_place and not stat.S_ISDIR(os.lstat(self.full_path(location)).st_mode)
        size, _, sha1 = what.partition(":")
        return self.may_replace(location, {(sha1, int(size))})

    def remove_undone(self, files: Sequence[tuple[str, str]]) -> int:
        """Remove files that `may_remove`, and the folders that are empty then. How many files were removed."""
        removed = sum(self._unlink(file[0]) for file in self.existing(files) if self.may_remove(*file))
        self.remove_empty(dict.fromkeys(os.path.dirname(location) for location, what in files if what != THUMB))
        return removed

    def _unlink(self, location: str) -> bool:
        """Remove a file; False when it was not there."""
        full = self.full_path(location)
        try:
            os.unlink(full)
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise translate(error, full) from error

    def remove_empty(self, folders: Iterable[str]) -> None:
        """Remove these folders and their parents as far as they are empty."""
        for start in folders:
            folder = start
            while folder and folder != THUMBS:  # which is the application's, full or empty
                try:
                    os.rmdir(self.full_path(folder))
                except FileNotFoundError:
                    pass
                except OSError:
                    break
                folder = os.path.dirname(folder)

    def describe(self, placement: Placement) -> tuple[str, str]:
        """A placement as the journal keeps it: location, and "size:path in hex", for a link the path that it says, for
        content "size:sha1"."""
        if placement.content:
            return placement.location, f"{placement.size}:{placement.content.sha1}"
        path = self.link_target(placement.path) if self.mode == "symlink" else placement.path
        return placement.location, f"{placement.size}:{path.hex()}"
