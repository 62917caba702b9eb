"""Shards of ebooks as they are found in a folder: tar archives, packed or not, and folders of what was extracted."""

import hashlib
import os
import re
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from bookpipe.model.errors import ConfigError
from bookpipe.sources import tar_headers
from bookpipe.sources.tar_headers import BLOCK

ShardKind = Literal["tar", "tar.gz", "tar.xz", "tar.zst", "tar.bz2", "folder"]
Look = tuple[int, int]  # size in bytes, modification time in ns


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard. `others` are other forms of it (the folder it was extracted to), which are not read."""

    key: str
    path: Path
    kind: ShardKind
    others: tuple[Path, ...] = ()

    @property
    def origin(self) -> str:
        """Where its rows come from. Items of a tar, packed or not, are offsets and those of a folder are numbers:
        they must not be taken for each other when a shard changes its form."""
        return f"folder:{self.key}" if self.kind == "folder" else f"tar:{self.key}"


@dataclass(frozen=True, slots=True)
class Settled:
    """When a tar counts as completely written: older than `min_age_s`, and as it was when looked at `earlier`.

    A modification time in the future says nothing: then it has to be as it was at an earlier look.
    """

    earlier: Mapping[str, Look] = field(default_factory=dict)  # what `look` gave then
    min_age_s: float = 60.0
    now: float | None = None  # seconds since the epoch

    def holds(self, key: str, seen: Look) -> bool:
        age = (time.time() if self.now is None else self.now) - seen[1] / 1e9
        known = self.earlier.get(key)
        return known == seen if age < 0 else age >= self.min_age_s and known in (None, seen)


class _Form(NamedTuple):
    rank: int  # which of several forms of a shard is read: the lowest that can be
    path: Path
    kind: ShardKind
    seen: Look


# Of files that are something else, or not yet or no longer a shard. Others may be part of a name: v1.5, 2024.11.02
_OTHER_SUFFIXES = re.compile(
    r"""
    part|partial|filepart|crdownload|download|tmp|temp|swp|lock|aria2|torrent|bak|old|orig|zip|rar|7z|gz|xz|zst|
    bz2|tbz|tbz2|lzma|txz|tlz|z|lz4|iso|img|cpio|cbt|gem|ova|deb|rpm|apk|jar|exe|md5|sha1|sha256|sha512|sum|sfv|
    par2|sig|asc|txt|text|log|nfo|md|csv|tsv|json|jsonl|xml|yaml|yml|ini|conf|sql|db|sqlite|parquet|pdf|pdb|rtf|
    doc|docx|odt|mobi|prc|azw|azw3|epub|djvu|html|htm|xhtml|chm|lit|fb2|fbz|cbr|cbz|cb7|opf|jpg|jpeg|png|gif|webp|
    tif|tiff|py|sh""",
    re.IGNORECASE | re.VERBOSE,
)
_NAME = re.compile(r"(.+?)\.(tar|tar\.gz|tgz|tar\.xz|tar\.zst|tar\.bz2|tbz2?)", re.IGNORECASE | re.DOTALL)
_KINDS: dict[str, ShardKind] = {"tar": "tar", "tar.zst": "tar.zst", "tar.gz": "tar.gz", "tgz": "tar.gz",
                                "tar.xz": "tar.xz", "tar.bz2": "tar.bz2", "tbz2": "tar.bz2",
                                "tbz": "tar.bz2"}  # fmt: skip
_RANKS = ["tar", "tar.zst", "tar.gz", "tar.xz", "tar.bz2", "folder"]  # the quickest first
MAGIC: dict[ShardKind, bytes] = {"tar.gz": b"\x1f\x8b", "tar.xz": b"\xfd7zXZ\0", "tar.zst": b"\x28\xb5\x2f\xfd",
                                 "tar.bz2": b"BZh"}  # fmt: skip
_SYSTEM_FOLDERS = {"lost+found", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"}


def shard_key(name: str) -> str:
    """The key of the shard `name` (without extension): itself where Dagster can take it as a partition key."""
    key = re.sub(r"[^A-Za-z0-9_.-]|\.{3,}", "_", name)  # Dagster refuses three dots in a row
    return key if key == name else f"{key}-{_hash(name)}"


def _hash(name: str) -> str:
    return hashlib.sha1(os.fsencode(name), usedforsecurity=False).hexdigest()[:8]


def look(directory: Path) -> dict[str, Look]:
    """Size and modification time of every tar by key, for `Settled.earlier` of the next look."""
    return {key: seen for key, forms in _find_forms(directory).items() if (seen := _seen(forms)) is not None}


def find_shards(directory: Path, *, settled: Settled) -> list[Shard]:
    """The shards in `directory`, by key. A tar that is still written is left out, and so is what is no shard.

    `name/`, `name.tar` and its packed forms are one shard: the first tar that can be read, else the folder. Two files
    of the same form are two shards.
    ConfigError when the directory cannot be listed.
    """
    shards = []
    for key, forms in sorted(_find_forms(directory).items()):
        seen = _seen(forms)
        if seen is not None and not settled.holds(key, seen):
            continue
        for form in forms:
            kind = form.kind if form.kind == "folder" else _detect(form.path)
            if kind is not None:
                break
        else:  # reading it will say what is wrong
            form, kind = forms[0], forms[0].kind
        shards.append(Shard(key, form.path, kind, tuple(other.path for other in forms if other is not form)))
    return shards


def find_others(directory: Path) -> list[Path]:
    """What in `directory` is no shard, hidden files, empty folders and those of the system apart. ConfigError when it
    cannot be listed."""
    others = []
    for entry in _list(directory):
        with suppress(OSError):
            if not entry.name.startswith(".") and entry.is_file() and _form(entry) is None:
                others.append(Path(entry.path))
    return others


def _seen(forms: list[_Form]) -> Look | None:
    tars = [form.seen for form in forms if form.kind != "folder"]
    return (sum(size for size, _ in tars), max(mtime for _, mtime in tars)) if tars else None


def _find_forms(directory: Path) -> dict[str, list[_Form]]:
    forms: dict[str, list[_Form]] = {}
    for entry in _list(directory):
        with suppress(OSError):  # gone meanwhile
            found = _form(entry)
            if found is not None:
                forms.setdefault(shard_key(found[0]), []).append(found[1])
    return _with_own_keys(forms)


def _list(directory: Path) -> list["os.DirEntry[str]"]:
    try:
        return sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(
            f"The folder of tar shards {directory} cannot be listed: {error.strerror}. Check BOOKPIPE_TAR_DIR."
        ) from error


def _with_own_keys(forms: dict[str, list[_Form]]) -> dict[str, list[_Form]]:
    """Forms by key and rank. Two of one rank ('7.tgz' beside '7.tar.gz') are two shards: who knows what is in them.

    The one that is called as usual keeps the key; the key of another is its whole name and a hash.
    """
    keyed: dict[str, list[_Form]] = {}
    for key, same in forms.items():
        same.sort(key=lambda form: (form.rank, not form.path.name.endswith(f".{form.kind}")))
        for n, form in enumerate(same):
            name = form.path.name
            if n and form.rank == same[n - 1].rank:
                keyed[f"{shard_key(name)}-{_hash(name)}"] = [form]
            else:
                keyed.setdefault(key, []).append(form)
    return keyed


def _form(entry: "os.DirEntry[str]") -> tuple[str, _Form] | None:
    """Name and form of the shard that an entry of the directory is, if it is one."""
    name, path = entry.name, Path(entry.path)
    if name.startswith("."):
        return None
    status = entry.stat()  # the directory is the user's own: a link to a shard elsewhere is as good
    kind: ShardKind | None = None
    if stat.S_ISDIR(status.st_mode):
        kind = "folder" if name not in _SYSTEM_FOLDERS and not _is_empty(path) else None
    elif stat.S_ISREG(status.st_mode):
        suffix = _NAME.fullmatch(name)
        if suffix:
            name, kind = suffix[1], _KINDS[suffix[2].lower()]
        elif "." not in name:
            kind = _detect(path)
        elif not _OTHER_SUFFIXES.fullmatch(name.rpartition(".")[2]):
            kind = "tar" if _has_tar_magic(path) else None
    return (name, _Form(_RANKS.index(kind), path, kind, (status.st_size, status.st_mtime_ns))) if kind else None


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except PermissionError:  # reading it will say so
        return False


def _detect(path: Path) -> ShardKind | None:
    """What kind of tar a file is by its first block; None when it is none or cannot be read."""
    head = _first_block(path)
    if head is None:
        return None
    for kind, magic in MAGIC.items():
        if head.startswith(magic):
            return kind
    return "tar" if tar_headers.parse_header(head) or head == bytes(BLOCK) else None


def _has_tar_magic(path: Path) -> bool:
    head = _first_block(path)
    return head is not None and head[257:262] == b"ustar" and tar_headers.parse_header(head) is not None


def _first_block(path: Path) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(BLOCK)
    except OSError:
        return None
