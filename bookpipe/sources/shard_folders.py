"""The files of a folder that a shard was extracted to, as rows."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bookpipe.model.rejections import Reason
from bookpipe.runtime.files import refuse
from bookpipe.sources.shard_chunks import Chunk, Filling, Resume, ShardRow, refuse_member
from bookpipe.sources.tar_headers import Kind, Member, Problem, ProblemKind
from bookpipe.sources.tar_shards import Shard
from bookpipe.sources.tar_streams import OPEN_FLAGS, OpenFile, Range

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)  # for our copy: nothing is wrong with the file

# Folder -> when it changed last, and the folders in it: those are the same as long as it has not changed.
_subfolders: dict[str, tuple[int, list[str]]] = {}


def latest_changes(root: Path) -> str:
    """A text that changes when a file is added to, removed from or renamed in a folder or one below it. Cheap after
    the first time: it looks at folders only, so it does not see a file that is rewritten in place.

    Raises OSError when the folder itself cannot be looked at.
    """
    digest, rest = hashlib.sha1(usedforsecurity=False), [os.fspath(root)]
    os.stat(root)
    while rest:
        folder = rest.pop()
        with suppress(OSError):  # gone meanwhile, or closed to us: reading the shard will say so
            changed = os.stat(folder).st_mtime_ns
            digest.update(b"%b %d\0" % (os.fsencode(folder), changed))
            known = _subfolders.get(folder)
            if known is None or known[0] != changed:
                with os.scandir(folder) as entries:
                    inside = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
                known = _subfolders[folder] = changed, inside
            rest += known[1]
    return digest.hexdigest()


class FolderReader:
    """The files of a folder."""

    def __init__(self, shard: Shard, max_member: int) -> None:
        self.root, self.max_member = os.fsencode(shard.path), max_member
        self.total: int | None = None
        self.done = 0

    def events(self, start: Resume) -> Iterator[Member | Problem]:
        return _walk_folder(self.root, start.position)

    def after(self, member: Member) -> int:
        return member.offset + 1

    def reaches(self, _member: Member) -> bool:
        return True

    def admit(self, member: Member) -> tuple[ShardRow, Member | None]:
        row = ShardRow(member.offset, member.name, member.size, member.mtime)
        refusal = refuse_member(member)
        if refusal is not None:
            row.refuse(*refusal)
        return row, None if refusal else member

    def load(self, row: ShardRow, member: Member, filling: Filling) -> bool:
        """Get the row's bytes, or its reason."""
        try:
            file = OpenFile(os.open(os.path.join(self.root, member.name), OPEN_FLAGS | os.O_NOFOLLOW))
            before = os.fstat(file.fd)
            if not stat.S_ISREG(before.st_mode):
                row.refuse(Reason.NOT_A_FILE.value, "")
            elif before.st_size != member.size:
                row.refuse(Reason.CHANGED_WHILE_READING.value, "")
            elif member.size > self.max_member:
                row.held = Range(file, 0, member.size)
            else:
                held = filling.allocate(member.size)
                if not Range(file, 0, member.size).copy_to(held.file.fd, held.offset) or file.is_changed():
                    row.refuse(Reason.CHANGED_WHILE_READING.value, "")
                else:
                    row.held = held
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            refused = refuse(error, os.path.join(self.root, member.name))
            row.refuse(refused.reason.value, refused.detail)
        self.done += member.size
        return True

    def close_chunk(self, filling: Filling, position: int, last: bool) -> Chunk:
        return Chunk(filling.rows, filling.problems, Resume(position), self.done, None, last)

    def close(self) -> None:
        """Nothing is held."""


def _walk_folder(root: bytes, start: int) -> Iterator[Member | Problem]:
    """The files below `root` from the `start`th on, sorted folder by folder. Nothing is opened, no link followed."""
    number = 0
    rest = [(b"", True)]
    while rest:
        name, is_folder = rest.pop()
        path = os.path.join(root, name)
        if is_folder:
            try:
                with os.scandir(path) as entries:
                    found = sorted(((e.name, e.is_dir(follow_symlinks=False)) for e in entries), reverse=True)
            except OSError as error:
                refuse(error, path)
                detail = f"{os.fsdecode(name)!r} cannot be listed: {error.strerror}"
                yield Problem(ProblemKind.UNREADABLE_FOLDER, number, number, detail)
                continue
            rest += ((os.path.join(name, entry), folder) for entry, folder in found)
            continue
        if number >= start:
            yield _describe_file(path, name, number)
        number += 1


def _describe_file(path: bytes, name: bytes, number: int) -> Member:
    try:
        status = os.lstat(path)
    except OSError as error:
        refuse(error, path)
        return Member(number, number, name, 1, 0, Kind.FILE)  # reading it will say what is wrong
    kind = {stat.S_IFREG: Kind.FILE, stat.S_IFLNK: Kind.SYMLINK, stat.S_IFIFO: Kind.FIFO}.get(
        stat.S_IFMT(status.st_mode), Kind.DEVICE
    )
    size = status.st_size if kind is Kind.FILE else 0
    return Member(number, number, name, size, int(status.st_mtime), kind, size)
