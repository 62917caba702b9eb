"""Why a row was not loaded. A reason is data: it is counted, stored and shown, and never stops a batch."""

from dataclasses import dataclass
from enum import Enum

import pyarrow as pa


class Reason(str, Enum):
    """Reasons a source row ends as rejected. The value is stable: it is stored and shown."""

    NO_FORMATS = "no_formats"
    BAD_RECORD = "bad_record"
    MISSING_FILE = "missing_file"
    MISSING_DIR = "missing_dir"
    OUTSIDE_LIBRARY = "outside_library"
    BAD_PATH = "bad_path"
    NOT_A_FILE = "not_a_file"
    UNREADABLE_FILE = "unreadable_file"
    EMPTY_FILE = "empty_file"
    TOO_LARGE = "too_large"
    CHANGED_WHILE_READING = "changed_while_reading"
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNKNOWN_LANGUAGE = "unknown_language"
    NAME_UNUSABLE = "name_unusable"
    SYMLINK = "symlink"
    TRAVERSING_NAME = "traversing_name"
    BROKEN_LINK = "broken_link"
    BROKEN_SPARSE = "broken_sparse"
    DAMAGED_FILE = "damaged_file"
    BAD_TIME = "bad_time"
    FUTURE_TIME = "future_time"
    EMPTY_ARTIST = "empty_artist"
    EMPTY_TITLE = "empty_title"
    TEXT_TOO_LONG = "text_too_long"
    NOT_FINISHED = "not_finished"
    NOT_A_LISTEN = "not_a_listen"
    OUTSIDE_WINDOW = "outside_window"
    LIKELY_REFUSED = "likely_refused"
    REFUSED = "refused"
    UPLOAD_FAILED = "upload_failed"
    NO_COVER = "no_cover"
    BAD_IMAGE = "bad_image"
    NAME_TAKEN = "name_taken"
    EBOOK_GONE = "ebook_gone"

    def __str__(self) -> str:
        return self.value


REASON_HELP: dict[Reason, str] = {
    Reason.NO_FORMATS: "the book has no file; set BOOKPIPE_LOAD_BOOKS_WITHOUT_FILES=true to load its record",
    Reason.BAD_RECORD: "the record cannot be read; the detail says why, the other records are not affected",
    Reason.MISSING_FILE: "the file is not on disk; restore it, or remove it (the format) from the library",
    Reason.MISSING_DIR: "the book's folder is not on disk; restore it or remove the book in Calibre",
    Reason.OUTSIDE_LIBRARY: "the path leads out of the library; bookpipe does not follow it",
    Reason.BAD_PATH: "the path has a part that is empty, '..', too long or holds a forbidden character",
    Reason.NOT_A_FILE: "there is a folder, device or pipe where a book file should be",
    Reason.UNREADABLE_FILE: "the file cannot be opened or read; check its rights and the disk",
    Reason.EMPTY_FILE: "the file has no bytes",
    Reason.TOO_LARGE: "the file is larger than the target can store (MyBookshelf2: 2147483647 bytes)",
    Reason.CHANGED_WHILE_READING: "the file changed while it was read; run the partition again",
    Reason.UNSUPPORTED_FORMAT: "MyBookshelf2 has no such format and creating formats is off or impossible",
    Reason.UNKNOWN_LANGUAGE: "MyBookshelf2 has no such language and creating languages is off",
    Reason.NAME_UNUSABLE: "no safe file name could be made from the book's names",
    Reason.SYMLINK: "the member of the shard is a symbolic link; links are never followed",
    Reason.TRAVERSING_NAME: "the member's name leads out of the shard ('..' or an absolute path); it is not read",
    Reason.BROKEN_LINK: "the member is a hard link to a file that the shard does not have, or that was not loaded",
    Reason.BROKEN_SPARSE: "the member is a sparse file that is too large, or whose map of holes contradicts itself",
    Reason.DAMAGED_FILE: "the file breaks off or is damaged here; what came before is read; download it again",
    Reason.BAD_TIME: "the record has no readable time, or one of 1 January 1970 or earlier: no clock was set",
    Reason.FUTURE_TIME: "the listen is more than a day in the future; correct its time in the source",
    Reason.EMPTY_ARTIST: "the record names no artist, or an artist without a name",
    Reason.EMPTY_TITLE: "the record names no track",
    Reason.TEXT_TOO_LONG: "a name is longer than 2,500 bytes, or there are more names than one listen can have",
    Reason.NOT_FINISHED: "the track was not played to its end; Koito does not import such plays",
    Reason.NOT_A_LISTEN: "a podcast, an audiobook or a track that was just playing; Koito does not import these",
    Reason.OUTSIDE_WINDOW: "the listen is outside of the time window that was asked for",
    Reason.LIKELY_REFUSED: "the music archive is known to refuse such files by their first bytes; it was not sent",
    Reason.REFUSED: "the music archive refused the file for good; its own words are in the detail",
    Reason.UPLOAD_FAILED: "the file could not be uploaded now; the next run of the partition tries it again",
    Reason.NO_COVER: "there is no picture beside the book and none in its files; MyBookshelf2 lets you choose one",
    Reason.BAD_IMAGE: "the book's picture is damaged, too large or of a kind that is not read; the detail says which",
    Reason.NAME_TAKEN: (
        "somebody else's file is where the cover or thumbnail belongs, or the book's folder was renamed just then; "
        "nothing is written over"
    ),
    Reason.EBOOK_GONE: "the book was deleted in MyBookshelf2 while its cover was made",
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row that was not loaded: what it was, why, and the detail a person needs to mend it."""

    key: str
    reason: Reason
    detail: str = ""


def rejected_rows(outcomes: pa.Table, name: str) -> list[Rejection]:
    """The rejections among a batch's outcomes: rows are called by origin, item and the column `name`."""
    columns = (outcomes.column(each).to_pylist() for each in ("origin", "item", name, "reason", "detail"))
    return [
        Rejection(f"{origin}#{item} {called or ''}".strip(), Reason(reason), detail or "")
        for origin, item, called, reason, detail in zip(*columns, strict=True)
        if reason
    ]
