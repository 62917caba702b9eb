"""What `bookpipe doctor` looks at and shows. It changes nothing, and needs no Dagster."""

import os
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bookpipe.model.errors import BookpipeError
from bookpipe.model.findings import Finding, failure
from bookpipe.model.secrets import redact
from bookpipe.pipelines.configured import koito, music_archive, mybookshelf2
from bookpipe.settings import Settings, help_of
from bookpipe.sources.audio import walk_audio
from bookpipe.sources.calibre import CalibreLibrary
from bookpipe.sources.calibre_health import examine_library
from bookpipe.sources.scrobbles import find_exports
from bookpipe.sources.tar_shards import Settled, find_others, find_shards
from bookpipe.targets.koito.health import examine as examine_koito
from bookpipe.targets.music_archive.health import examine as examine_archive
from bookpipe.targets.mybookshelf2.health import examine

LOCK_TIMEOUT_S = 3.0  # a person is waiting; a load waits longer
MAX_OTHERS = 10  # files that are no shards, by name

_LIBRARY = "BOOKPIPE_CALIBRE_LIBRARY"
_URL = "BOOKPIPE_MYBOOKSHELF2_URL"
_DATA_DIR = "BOOKPIPE_MYBOOKSHELF2_DATA_DIR"


def diagnose(settings: Settings) -> list[Finding]:
    """Findings about bookpipe's own folder, then every source, then every target. Raises nothing for what is wrong."""
    library = CalibreLibrary(settings.calibre_library, LOCK_TIMEOUT_S) if settings.calibre_library else None
    if library is None:
        source = [Finding("Calibre", None, f"not configured: {_LIBRARY} is not set", _to_set(_LIBRARY))]
    else:
        source = examine_library(library)
    return [
        _state(settings),
        *source,
        *_shards(settings),
        *_mybookshelf2(settings, library),
        *_scrobbles(settings),
        *_koito(settings),
        *_music(settings),
        *_archive(settings),
    ]


def _to_set(*names: str) -> str:
    return " ".join(f"To use it, set {name} in .env: {help_of(name)}" for name in names)


def _state(settings: Settings) -> Finding:
    """The state file and Dagster's home are made when missing, so the nearest folder that is there must be writable."""
    folders = dict.fromkeys((settings.home, settings.state_path.parent))
    for folder in folders:
        there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
            why = "cannot be written" if os.path.isdir(there) else "is no folder"
            return Finding(
                "bookpipe: state", False, f"{there} {why}",
                f"bookpipe keeps its state in {folder}: give this user the right to write there, or set "
                f"{'DAGSTER_HOME' if folder == settings.home else 'BOOKPIPE_STATE_URL'} to another place.",
            )  # fmt: skip
    return Finding("bookpipe: state", True, f"can be kept in {settings.state_path}")


def _shards(settings: Settings) -> list[Finding]:
    name = "BOOKPIPE_TAR_DIR"
    if settings.tar_dir is None:
        return [Finding("Shards", None, f"not configured: {name} is not set", _to_set(name))]
    try:
        shards = find_shards(settings.tar_dir, settled=Settled(min_age_s=0))
        written = {shard.key for shard in shards} - {s.key for s in find_shards(settings.tar_dir, settled=Settled())}
        others = find_others(settings.tar_dir)
    except BookpipeError as error:
        return [failure("Shards: folder", error)]
    size = sum(shard.path.stat().st_size for shard in shards if shard.kind != "folder" and shard.path.exists()) / 1e9
    findings = [Finding("Shards: folder", bool(shards), f"{len(shards)}, {size:,.1f} GB in tars" if shards else "none",
                        "" if shards else f"Put tars of ebooks into {settings.tar_dir}.")]  # fmt: skip
    findings += [
        Finding(f"Shards: {shard.path.name}", False, "cannot be read", "Give this user the right to read it.")
        for shard in shards if not os.access(shard.path, os.R_OK)
    ]  # fmt: skip
    findings += [
        Finding(f"Shards: {key}", None, "is still being written", "It is found a minute after its last change.")
        for key in sorted(written)
    ]
    findings += [
        Finding(
            f"Shards: {path.name}", None, "passed over", "It is no tar, and none packed by gzip, xz, zstd or bzip2."
        )
        for path in others[:MAX_OTHERS]
    ]
    if len(others) > MAX_OTHERS:
        findings.append(Finding("Shards: others", None, f"{len(others) - MAX_OTHERS} more files are passed over"))
    return findings


def _mybookshelf2(settings: Settings, library: CalibreLibrary | None) -> list[Finding]:
    given = {_URL: settings.mybookshelf2_url, _DATA_DIR: settings.mybookshelf2_data_dir}
    unset = [name for name, value in given.items() if not value]
    if len(unset) == len(given):
        detail = f"not configured: {' and '.join(unset)} are not set"
        return [Finding("MyBookshelf2", None, detail, _to_set(*unset))]
    if unset:
        return [Finding("MyBookshelf2", False, f"half configured: {unset[0]} is not set", _to_set(*unset))]
    try:
        target = mybookshelf2(settings)
    except BookpipeError as error:
        return [failure("MyBookshelf2: settings", error)]
    return examine(target, library.path if library else None, _count(library))


def _count(library: CalibreLibrary | None) -> int | None:
    """How many books would be loaded, None when the library cannot say: that is a finding of its own already."""
    try:
        return library.count_books() if library else None
    except BookpipeError:
        return None


def _scrobbles(settings: Settings) -> list[Finding]:
    name = "BOOKPIPE_SCROBBLE_DIR"
    if settings.scrobble_dir is None:
        return [Finding("Scrobbles", None, f"not configured: {name} is not set", _to_set(name))]
    try:
        exports, others = find_exports(settings.scrobble_dir)
    except BookpipeError as error:
        return [failure("Scrobbles: exports", error)]
    kinds = ", ".join(f"{export.path.name} ({export.kind})" for export in exports)
    findings = [Finding("Scrobbles: exports", bool(exports), f"{len(exports)}: {kinds}" if exports else "none",
                        "" if exports else f"Put exports into {settings.scrobble_dir}.")]  # fmt: skip
    return findings + [Finding(f"Scrobbles: {path.name}", None, "passed over", str(error)) for path, error in others]


def _koito(settings: Settings) -> list[Finding]:
    if settings.koito_url is None:
        return [Finding("Koito", None, "not configured: BOOKPIPE_KOITO_URL is not set", _to_set("BOOKPIPE_KOITO_URL"))]
    try:
        return examine_koito(koito(settings))
    except BookpipeError as error:
        return [failure("Koito: settings", error)]


def _music(settings: Settings) -> list[Finding]:
    name = "BOOKPIPE_MUSIC_DIR"
    if settings.music_dir is None:
        return [Finding("Music", None, f"not configured: {name} is not set", _to_set(name))]
    unreadable: list[str] = []
    try:
        files = sum(1 for _ in walk_audio(settings.music_dir, on_unreadable=lambda _path, why: unreadable.append(why)))
    except BookpipeError as error:
        return [failure("Music: folder", error)]
    if unreadable:
        return [Finding("Music: folder", False, f"{len(unreadable)} folders cannot be read: {unreadable[0]}",
                        "Give this user the right to read them; what is in them is not uploaded.")]  # fmt: skip
    return [Finding("Music: folder", True, f"{files:,} audio files in {settings.music_dir}")]


def _archive(settings: Settings) -> list[Finding]:
    names = ("BOOKPIPE_ARCHIVE_URL", "BOOKPIPE_ARCHIVE_EMAIL", "BOOKPIPE_ARCHIVE_PASSWORD")
    given = (settings.archive_url, settings.archive_email, settings.archive_password)
    unset = [name for name, value in zip(names, given, strict=True) if not value]
    if len(unset) == len(names):
        return [Finding("Music archive", None, "not configured: BOOKPIPE_ARCHIVE_URL is not set", _to_set(*unset))]
    if unset:
        return [Finding("Music archive", False, f"half configured: {unset[0]} is not set", _to_set(*unset))]
    try:
        return examine_archive(music_archive(settings))
    except BookpipeError as error:
        return [failure("Music archive: settings", error)]


_SHOWN = {True: ("OK", "green"), False: ("FAIL", "bold red"), None: ("-", "dim")}


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """A table of what was found, and a last line that counts what failed."""
    findings = list(findings)
    table = Table(show_lines=False, pad_edge=False, box=None, padding=(0, 2, 0, 0))
    for header in ("", "subject", "detail", "what to do"):
        table.add_column(header, overflow="fold", no_wrap=header == "")
    for finding in findings:
        word, style = _SHOWN[finding.ok]
        texts = (finding.subject, finding.detail, finding.remedy)
        table.add_row(Text(word, style), *(Text(_printable(text)) for text in texts))
    console.print(table)
    failed = sum(finding.ok is False for finding in findings)
    console.print(Text(f"{failed} of {len(findings)} failed." if failed else "Nothing is wrong.", "bold"))


def _printable(text: str) -> str:
    """Without passwords, and with what no terminal can show (bytes of a path that are not UTF-8) replaced."""
    return redact(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
