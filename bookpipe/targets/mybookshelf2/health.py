"""Whether a MyBookshelf2 installation can be loaded into, and what to do where it cannot.

The database is only read. In the book folder one file is placed as a load would place it, and removed at once.
"""

import contextlib
import os
import secrets
from pathlib import Path

from bookpipe.model.book_plans import Placement
from bookpipe.model.errors import BookpipeError
from bookpipe.model.findings import Finding, failure, skipped
from bookpipe.targets.mybookshelf2.database_health import examine_database
from bookpipe.targets.mybookshelf2.server import MyBookshelf2
from bookpipe.targets.mybookshelf2.storage import PART

INODES_PER_BOOK = 5  # the author's folder, the book's, the file; cover and thumbnail
SPACE_PER_BOOK = 12 * 1024  # bytes: a block of 4 KiB for the first three; copies and covers need their size on top

_LOOKED_AT = 1_000  # entries of the library looked at for a file to try with


def examine(target: MyBookshelf2, library: Path | None, books: int | None = None) -> list[Finding]:
    """Findings about the database, then about the folders.

    `library` is the folder whose files would be loaded, None when there is none yet; `books` is how many it has.
    What depends on something that failed is skipped. Raises nothing for what is wrong with an installation.
    """
    database, loaded = examine_database(target)
    left = None if books is None else max(0, books - loaded)
    return [*database, *_examine_folders(target, library, left)]


def _examine_folders(target: MyBookshelf2, library: Path | None, left: int | None) -> list[Finding]:
    """`left` is the number of books that are not loaded yet, None when nobody knows."""
    folder, thumbs = _book_folder(target, library), _thumbs(target)
    links = _links(target, library)
    if not folder.ok:
        subjects = (
            "MyBookshelf2: owner",
            "MyBookshelf2: free inodes",
            "MyBookshelf2: free space",
            _file_mode_subject(target),
        )
        return [folder, thumbs, *skipped(subjects, "the book folder"), links]
    try:
        room = [_owner(target), *_room(target, left)]
    except OSError as error:
        room = [Finding("MyBookshelf2: free space", False, f"{target.folder.root}: {error.strerror}")]
    return [folder, thumbs, *room, _file_mode(target, library), links]


def _book_folder(target: MyBookshelf2, library: Path | None) -> Finding:
    subject, root = "MyBookshelf2: book folder", target.folder.root
    if not os.path.isdir(target.data_dir):
        return Finding(
            subject, False, f"{target.data_dir} is no folder",
            "Set BOOKPIPE_MYBOOKSHELF2_DATA_DIR to MyBookshelf2's data directory (its MBS2_DATA_DIR).",
        )  # fmt: skip
    try:
        target.folder.check()
    except BookpipeError as error:
        return failure(subject, error)
    real = os.path.realpath(root)
    if library is not None and (real + "/").startswith(os.path.realpath(library) + "/"):
        return Finding(
            subject, False, f"{root} is inside the Calibre library {library}",
            "bookpipe never writes into a library: give MyBookshelf2 a data directory elsewhere.",
        )  # fmt: skip
    if os.path.islink(root):
        return Finding(
            subject, True, f"{root} is a link to {real}",
            "If MyBookshelf2 runs in a container, the folder it leads to has to be mounted there too.",
        )  # fmt: skip
    return Finding(subject, True, f"{root} is there and writable")


def _thumbs(target: MyBookshelf2) -> Finding:
    subject, path = "MyBookshelf2: thumbs", target.data_dir / "thumbs"
    if not os.path.isdir(path):
        return Finding(
            subject, False, f"{path} is no folder",
            "MyBookshelf2 keeps it beside books: is BOOKPIPE_MYBOOKSHELF2_DATA_DIR its data directory? In a new "
            "installation make the folder, owned by the application's user.",
        )  # fmt: skip
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding(subject, False, f"{path} cannot be written", "Give this user the right to write in it.")
    return Finding(subject, True, str(path))


def _owner(target: MyBookshelf2) -> Finding:
    """New folders must be writable for the application, which adds covers and uploads to them."""
    subject, owner, me = "MyBookshelf2: owner", os.stat(target.folder.root).st_uid, os.geteuid()
    if owner == me:
        return Finding(subject, True, f"the book folder and what is added belong to this user ({me})")
    if me == 0:
        return Finding(subject, True, f"new folders are given to the book folder's owner ({owner})")
    return Finding(
        subject, True, f"new folders will belong to this user ({me}), the book folder belongs to {owner}",
        f"MyBookshelf2 adds covers and uploads to them: run bookpipe as user {owner} or as root, unless the "
        f"application runs as {me} itself.",
    )  # fmt: skip


def _room(target: MyBookshelf2, left: int | None) -> list[Finding]:
    status = os.statvfs(target.folder.root)
    space = status.f_bavail * status.f_frsize
    extra = " and the size of the files" if target.file_mode == "copy" else ""
    findings = []
    for subject, free, each, unit, size in (
        ("MyBookshelf2: free inodes", status.f_favail if status.f_files else None, INODES_PER_BOOK, "", 1),
        ("MyBookshelf2: free space", space, SPACE_PER_BOOK, " MiB", 1024 * 1024),
    ):
        if free is None:
            findings.append(Finding(subject, True, "the file system makes them as they are needed"))
            continue
        detail = f"{free // size:,}{unit} free"
        if left is None:
            findings.append(Finding(subject, True, f"{detail}; how many books will come is not known"))
            continue
        needed = left * each
        detail += f", about {-(-needed // size):,}{unit}{extra if unit else ''} needed for {left:,} books"
        remedy = "" if free >= needed else "Free some, or put the book folder on a larger file system."
        findings.append(Finding(subject, free >= needed, detail, remedy))
    return findings


def _file_mode_subject(target: MyBookshelf2) -> str:
    return f"MyBookshelf2: {target.file_mode} works"


def _file_mode(target: MyBookshelf2, library: Path | None) -> Finding:
    """Place a real file as a load would, look at it and take it away."""
    subject = _file_mode_subject(target)
    path = _any_file(library) if library else None
    if path is None:
        return Finding(subject, None, "not tried: there is no library file to try with")
    try:
        size = path.stat().st_size
    except OSError as error:
        return Finding(subject, None, f"not tried: {path}: {error.strerror}")
    name = f".bookpipe-doctor-{secrets.token_hex(8)}"
    full = os.path.join(target.folder.root, name)
    try:
        target.folder.place([Placement(0, name, os.fsencode(path), size)])
        stands = target.folder.stands_for(name, os.fsencode(path), size)
    except (BookpipeError, OSError) as error:
        return _refused(target, path, error)
    finally:
        for leftover in (full, full + PART):
            with contextlib.suppress(OSError):
                os.unlink(leftover)
    if not stands:
        return Finding(
            subject, False, "what is read back from the book folder is not what was placed there",
            "Does the file system keep links? Set BOOKPIPE_FILE_MODE=copy if not.",
        )  # fmt: skip
    return Finding(subject, True, f"tried with a file of the library in {target.folder.root}, and removed")


def _refused(target: MyBookshelf2, path: Path, error: BookpipeError | OSError) -> Finding:
    subject = _file_mode_subject(target)
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    detail = (cause.strerror if isinstance(cause, OSError) else None) or str(error)
    if target.file_mode == "hardlink" and os.stat(path).st_dev != os.stat(target.folder.root).st_dev:
        return Finding(
            subject, False, f"{path.parent} and {target.folder.root} are on different file systems ({detail})",
            "A hard link is a second name in the same file system (two mounts of one count as two): set "
            "BOOKPIPE_FILE_MODE to symlink or copy, or put the book folder beside the library.",
        )  # fmt: skip
    if target.file_mode == "hardlink":
        return Finding(
            subject, False, f"a hard link to {path.name} is refused: {detail}",
            "Linux allows hard links only to files this user owns or may write (fs.protected_hardlinks), and only "
            "within one mount: run bookpipe as the library's owner, or set BOOKPIPE_FILE_MODE to symlink or copy.",
        )  # fmt: skip
    if target.file_mode == "symlink":
        return Finding(
            subject, False, f"a symbolic link is refused: {detail}",
            "The file system of the book folder may have none (FAT, some shares): set BOOKPIPE_FILE_MODE=copy.",
        )  # fmt: skip
    return Finding(
        subject, False, f"a copy is refused: {detail}", "May this user read the library and write the book folder?"
    )


def _any_file(library: Path) -> Path | None:
    """The smallest file of the first book folder (two levels down, as Calibre lays a library out) that has one."""
    looked_at = 0
    with contextlib.suppress(OSError):
        for author in sorted(_folders(library)):
            for book in sorted(_folders(author)):
                with os.scandir(book) as entries:
                    sizes = {Path(e.path): e.stat().st_size for e in entries if e.is_file(follow_symlinks=False)}
                if full := [path for path, size in sizes.items() if size]:
                    return min(full, key=sizes.__getitem__)
                looked_at += 1
                if looked_at >= _LOOKED_AT:
                    return None
    return None


def _folders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]


def _links(target: MyBookshelf2, library: Path | None) -> Finding:
    """What links would say, and who has to understand it. No look at the application's side is possible from here."""
    subject = "MyBookshelf2: links"
    if target.file_mode != "symlink":
        return Finding(subject, None, f"not needed: BOOKPIPE_FILE_MODE is {target.file_mode}")
    prefix = target.folder.link_prefix
    if library is None:
        return Finding(subject, None, "skipped: there is no library to link to")
    root = os.path.abspath(library)
    example = os.fsdecode(
        target.folder.link_target(os.fsencode(os.path.join(root, "Author", "Title (1)", "file.epub")))
    )
    says = f"they will say, for example, {example}"
    if prefix is None:
        return Finding(
            subject, True, says,
            f"If MyBookshelf2 runs in a container, mount {root} there at the same path (read-only), or set "
            f"BOOKPIPE_LINK_PREFIX={root}=<its path in the container>.",
        )  # fmt: skip
    if not (root + "/").startswith(prefix[0] + "/"):
        return Finding(
            subject, False, f"BOOKPIPE_LINK_PREFIX is about {prefix[0] or '/'}, the library is {root}",
            f"Set it to {root}=<its path in the container>; as it is, it changes no link.",
        )  # fmt: skip
    inside = os.fsdecode(target.folder.link_target(os.fsencode(root)))
    return Finding(
        subject,
        True,
        says,
        f"MyBookshelf2 must be able to open that: mount {root} at {inside} in its containers (read-only).",
    )
