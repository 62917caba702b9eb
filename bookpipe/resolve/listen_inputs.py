"""What decides how a listen is resolved, taken out of LISTENS rows once: listens that say the same share one input.

People hear the same tracks again and again, so a chunk has far fewer inputs than listens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from bookpipe.model.listens import trim
from bookpipe.model.rejections import Reason
from bookpipe.resolve.artist_names import DEFAULT_SEPARATORS, Separators, compile_separators, parse_artists

RULES_VERSION = 1  # part of every digest: raise it when a listen may resolve to something else than before
KOITO = "koito"
MAX_DETAIL = 300  # characters

Fault = tuple[Reason, str]


@dataclass(frozen=True)
class ListenOptions:
    """How listens are resolved. ConfigError for separators that are no regular expressions."""

    artist_separators: str = DEFAULT_SEPARATORS  # as in Koito's KOITO_ARTIST_SEPARATORS_REGEX: joined by ;;
    lookup_cache: bool = False

    def __post_init__(self) -> None:
        compile_separators(self.artist_separators)


class Said(NamedTuple):
    """The columns of LISTENS that decide a resolution. Lists are tuples, empty where there is none."""

    kind: str
    title: str | None
    artist: str | None
    artist_names: tuple[str, ...]
    artist_mbids: tuple[str | None, ...]
    credit_names: tuple[str, ...]
    credit_mbids: tuple[str | None, ...]
    album: str | None
    recording_mbid: str | None
    release_mbid: str | None
    duration: int | None
    track_aliases: tuple[str, ...]
    album_aliases: tuple[str, ...]
    artist_aliases: tuple[tuple[str, ...], ...]
    artist_images: tuple[str | None, ...]
    album_image: str | None
    various_artists: bool | None


class ListenInput(NamedTuple):
    """What some listens say, and what follows from that alone."""

    said: Said
    exported: bool  # it is of Koito's own export, which has its own rules
    title: str
    album: str  # or the track's title
    names: tuple[str, ...]  # trimmed
    credit_names: tuple[str, ...]  # trimmed
    parsed: tuple[str, ...]  # artists out of the artist string and the title, where the rules can come to that
    duration: int  # that fills a gap of its track, seconds; 0 = unknown, or the kind fills none
    fault: Fault | None  # why it cannot be resolved, whatever Koito has
    digest: bytes  # b"" without the lookup cache


@dataclass(frozen=True)
class PreparedListens:
    """The listens of a chunk: `inputs` has the input of each row, those that say the same being one object."""

    inputs: list[ListenInput]
    distinct: list[ListenInput]
    seconds: list[int | None]  # since 1970
    microseconds: list[int]  # the rest; Koito cuts times to seconds, but for those of its own export
    clients: list[str]
    reasons: list[str | None]
    details: list[str | None]


def prepare_listens(listens: pa.Table, options: ListenOptions) -> PreparedListens:
    """LISTENS rows, read once for looking up and for resolving."""
    make = _maker(options)
    known: dict[tuple[Any, ...], ListenInput] = {}
    inputs = []
    for values in zip(*(_column(listens, name) for name in Said._fields), strict=True):
        found = known.get(values)
        if found is None:
            found = known[values] = make(Said._make(values))
        inputs.append(found)
    parts = listens.column("listened_us").to_pylist()
    return PreparedListens(
        inputs,
        list(known.values()),
        listens.column("listened_at").to_pylist(),
        [(us or 0) if one.exported else 0 for us, one in zip(parts, inputs, strict=True)],
        [client or "" for client in listens.column("client").to_pylist()],
        listens.column("reason").to_pylist(),
        listens.column("detail").to_pylist(),
    )


def _column(listens: pa.Table, name: str) -> Sequence[Any]:
    """A column's values, lists as tuples; most lists of most formats are never there."""
    column = listens.column(name)
    if not pa.types.is_list(column.type):
        values: list[Any] = column.to_pylist()
        return values
    if column.null_count == len(column):
        return [()] * len(column)
    if pa.types.is_list(column.type.value_type):
        return [tuple(tuple(one or ()) for one in value or ()) for value in column.to_pylist()]
    texts = pc.list_flatten(column).to_pylist()  # many times faster than list by list
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_pylist()
    return [tuple(texts[end - length : end]) for length, end in zip(lengths, accumulate(lengths), strict=True)]


def _maker(options: ListenOptions) -> Callable[[Said], ListenInput]:
    separators = compile_separators(options.artist_separators)
    digest = _digester(options) if options.lookup_cache else None

    def make(said: Said) -> ListenInput:
        exported = said.kind == KOITO
        names = tuple(map(trim, said.artist_names))
        credits = () if exported else tuple(map(trim, said.credit_names))
        title = said.title or ""
        return ListenInput(
            said=said,
            exported=exported,
            title=title,
            album=said.album or title,
            names=names,
            credit_names=credits,
            parsed=() if exported else _parse(said, separators),
            duration=0 if exported else said.duration or 0,
            fault=_fault(said, names, credits, exported=exported),
            digest=b"" if digest is None else digest(said),
        )

    return make


def _parse(said: Said, separators: Separators) -> tuple[str, ...]:
    if said.artist_names or (said.credit_names and len(said.artist_mbids) <= len(said.credit_names)):
        return ()
    return tuple(parse_artists(said.artist or "", said.title or "", separators))


def _fault(said: Said, names: tuple[str, ...], credits: tuple[str, ...], *, exported: bool) -> Fault | None:
    """Why a listen cannot be resolved whatever Koito has, so that no artist is made for it in vain."""
    if not said.artist:
        return fault_of_artists("the record names no artist")
    if not said.title:
        return Reason.EMPTY_TITLE, "the record names no track"
    if exported:
        if not trim(said.title):  # its importer makes an alias of the trimmed title
            return Reason.EMPTY_TITLE, "the title of the track is blank"
        if not names:
            return fault_of_artists("the record lists no artist")
    unread = max(len(names), len(said.artist_mbids)) <= len(credits)  # Koito makes do with the credits
    if not (all(credits) and (unread or all(names))):
        return fault_of_artists(f"one of the artists {[*said.artist_names, *said.credit_names]!r} has no name")
    return None


def fault_of_artists(detail: str) -> Fault:
    return Reason.EMPTY_ARTIST, detail[:MAX_DETAIL]


def _digester(options: ListenOptions) -> Callable[[Said], bytes]:
    """Digests of 16 bytes of all that decides what a listen is resolved to. (A duration does not: it fills a gap.)

    Python's notation in ASCII tells all values apart and is the same in every Python. Of the texts nothing is folded or
    trimmed.
    """
    settings = (RULES_VERSION, options.artist_separators or DEFAULT_SEPARATORS)
    start = blake2b(ascii(settings).encode(), digest_size=16)

    def digest(said: Said) -> bytes:
        exported = said.kind == KOITO
        values: tuple[object, ...] = (
            exported,
            said.artist,
            said.artist_names,
            said.artist_mbids,
            said.title,
            said.recording_mbid,
            said.album or "",
            said.release_mbid,
        )
        if exported:
            values += (
                said.track_aliases,
                said.album_aliases,
                said.artist_aliases,
                said.artist_images,
                said.album_image or "",
                bool(said.various_artists),
            )
        else:
            values += (said.credit_names, said.credit_mbids)
        state = start.copy()
        state.update(ascii(values).encode())
        return state.digest()

    return digest
