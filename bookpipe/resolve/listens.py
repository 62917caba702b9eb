"""Listens become a plan for Koito: its own rules, replayed listen by listen on what its tables hold.

The kinds maloja, spotify, lastfm and listenbrainz share the rules of Koito's listen submission, with MusicBrainz and
the image providers switched off; its own export (kind "koito") has rules of its own. This much differs on purpose:

- Names are trimmed before they are looked up; Koito makes an artist of an untrimmed one again for each listen.
- A listen has an artist once. With one listed twice Koito finds no track and makes another for each listen.
- A listen without artists, or with a nameless one, is rejected and leaves nothing behind; Koito stops half-way.
- An album without a title is called like the track, also in Koito's own export, where Koito makes a nameless album
  for each listen. It does not write such exports itself.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import zip_longest
from typing import NamedTuple

import pyarrow as pa

from bookpipe.model.listen_plans import NEW_LISTENS, KoitoImage, ListenPlan, Resolution, Wanted
from bookpipe.model.listens import fold_name, trim
from bookpipe.model.rejections import Reason
from bookpipe.resolve.artist_names import DEFAULT_SEPARATORS, Separators, compile_separators, parse_artists
from bookpipe.resolve.koito_image import KoitoIndex

RULES_VERSION = 1  # part of every digest: raise it when a listen may resolve to something else than before
KOITO = "koito"
MAX_DETAIL = 300  # characters
SAMPLES = 3  # times that a resolution remembers

Place = tuple[int, int, int]  # first artist, release and track of a listen
Fault = tuple[Reason, str]


@dataclass(frozen=True)
class ListenOptions:
    """How listens are resolved. ConfigError for separators that are no regular expressions."""

    artist_separators: str = DEFAULT_SEPARATORS  # as in Koito's KOITO_ARTIST_SEPARATORS_REGEX: joined by ;;
    lookup_cache: bool = False

    def __post_init__(self) -> None:
        compile_separators(self.artist_separators)


class _Listen(NamedTuple):
    """The columns of LISTENS that the rules use."""

    kind: str
    listened_at: int | None
    listened_us: int | None
    client: str | None
    title: str | None
    artist: str | None
    artist_names: list[str] | None
    artist_mbids: list[str | None] | None
    credit_names: list[str] | None
    credit_mbids: list[str | None] | None
    album: str | None
    recording_mbid: str | None
    release_mbid: str | None
    duration: int | None
    track_aliases: list[str] | None
    album_aliases: list[str] | None
    artist_aliases: list[list[str] | None] | None
    artist_images: list[str | None] | None
    album_image: str | None
    various_artists: bool | None

    @property
    def microseconds(self) -> int:
        """Koito cuts times to seconds, but for those of its own export."""
        return (self.listened_us or 0) if self.kind == KOITO else 0


def wanted(listens: pa.Table, options: ListenOptions) -> Wanted:
    """Every text by which `resolve_listens` could look anything up for these LISTENS rows.

    Rows that have a reason, or that are rejected for what is in them, are passed over.
    """
    separators = compile_separators(options.artist_separators)
    digest = _digester(options)
    artist_names: set[str] = set()
    artist_mbids: set[str | None] = set()
    release_titles: set[str] = set()
    release_mbids: set[str | None] = set()
    track_titles: set[str] = set()
    recording_mbids: set[str | None] = set()
    keys = []
    for row, (listen, reason) in enumerate(zip(_rows(listens), listens.column("reason").to_pylist(), strict=True)):
        if reason is not None or _fault(listen) is not None:
            continue
        title = listen.title or ""
        names = listen.artist_names or ()
        mbids = listen.artist_mbids or ()
        artist_names.update(map(trim, names))
        artist_mbids.update(mbids)
        if listen.kind != KOITO:
            credits = listen.credit_names or ()
            artist_names.update(map(trim, credits))
            artist_mbids.update(listen.credit_mbids or ())
            if not names and (not credits or len(mbids) > len(credits)):
                artist_names.update(parse_artists(listen.artist or "", title, separators))
        release_titles.add(listen.album or title)
        release_mbids.add(listen.release_mbid)
        track_titles.add(title)
        recording_mbids.add(listen.recording_mbid)
        if options.lookup_cache:
            keys.append((row, digest(listen), listen.listened_at or 0, listen.microseconds))
    return Wanted(
        artist_names=frozenset(artist_names),
        artist_mbids=_given(artist_mbids),
        release_titles=frozenset(release_titles),
        release_mbids=_given(release_mbids),
        track_titles=frozenset(track_titles),
        recording_mbids=_given(recording_mbids),
        keys=tuple(keys),
    )


def _given(mbids: set[str | None]) -> frozenset[str]:
    return frozenset(mbid for mbid in mbids if mbid is not None)


def resolve_listens(listens: pa.Table, image: KoitoImage, options: ListenOptions) -> ListenPlan:
    """What these LISTENS rows add to a Koito database of which `image` holds all that is `wanted` for them.

    Rows are replayed in their order. Those of `image.loaded` end as existing unseen; those whose digest is in
    `image.followed` become listens of that track and change nothing else. A resolution names the artist and the album
    that the listen was resolved to, whatever album its track is on; for a followed track it names the track's own,
    and there is none when the image does not have that track.
    """
    replay = _Replay(image, options)
    outcomes = []
    given = zip(*(listens.column(name).to_pylist() for name in ("reason", "detail")), strict=True)
    for row, (listen, (reason, detail)) in enumerate(zip(_rows(listens), given, strict=True)):
        if reason is not None:
            outcomes.append(("rejected", reason, detail))
        elif (fault := _fault(listen)) is not None:
            outcomes.append(("rejected", fault[0].value, fault[1]))
        elif row in image.loaded:
            outcomes.append(("existing", None, None))
        elif (outcome := replay.submit(row, listen)) is not None:
            outcomes.append((outcome, None, None))
        else:
            fault = _fault_of_artists(f"no name is left of {listen.artist!r}")
            outcomes.append(("rejected", fault[0].value, fault[1]))
    plan = replay.finish()
    if outcomes:
        plan.outcomes, plan.reasons, plan.details = map(list, zip(*outcomes, strict=True))
    return plan


class _Replay:
    """The listens of a chunk, one after the other."""

    def __init__(self, image: KoitoImage, options: ListenOptions) -> None:
        self._image = image
        self._index = KoitoIndex(image)
        self._submitted = _SubmittedListens(self._index, compile_separators(options.artist_separators))
        self._exported = _ExportedListens(self._index)
        self._digest = _digester(options) if options.lookup_cache else None
        self._new: list[tuple[int, int, int, int, str]] = []  # columns of NEW_LISTENS
        self._times: set[tuple[int, int, int]] = set()
        self._samples: dict[tuple[bytes, int], tuple[int, int, dict[int, None]]] = {}

    def submit(self, row: int, listen: _Listen) -> str | None:
        """The outcome of a listen; None, and nothing was added, when no artist is left of it."""
        key = None if self._digest is None else self._digest(listen)
        track = None if key is None else self._image.followed.get(key)
        if track is None:
            place = (self._exported if listen.kind == KOITO else self._submitted).resolve(listen)
            if place is None:
                return None
            track = place[2]
        else:
            place = self._index.track_place(track)
        seconds = listen.listened_at or 0
        if key is not None and place is not None:
            sample = self._samples.setdefault((key, track), (place[0], place[1], {}))[2]
            if len(sample) < SAMPLES:
                sample[seconds] = None
        time = (track, seconds, 0 if self._image.whole_seconds else listen.microseconds)
        if time in self._times:
            return "existing"
        self._times.add(time)
        self._new.append((row, *time, listen.client or ""))
        return "inserted"

    def finish(self) -> ListenPlan:
        """The plan, but for the outcomes."""
        plan = self._index.finish()
        columns = zip(*self._new, strict=True) if self._new else ((),) * len(NEW_LISTENS)
        arrays = [pa.array(values, f.type) for values, f in zip(columns, NEW_LISTENS, strict=True)]
        plan.listens = pa.table(arrays, schema=NEW_LISTENS)
        plan.resolutions = [
            Resolution(key, artist, release, track, tuple(seconds))
            for (key, track), (artist, release, seconds) in self._samples.items()
        ]
        return plan


def _rows(listens: pa.Table) -> Iterator[_Listen]:
    columns = (listens.column(name).to_pylist() for name in _Listen._fields)
    return map(_Listen._make, zip(*columns, strict=True))


def _fault(listen: _Listen) -> Fault | None:
    """Why a listen cannot be resolved whatever Koito has, so that no artist is made for it in vain."""
    if not listen.artist:
        return _fault_of_artists("the record names no artist")
    if not listen.title:
        return Reason.EMPTY_TITLE, "the record names no track"
    if listen.listened_at is None:
        return Reason.BAD_TIME, "the record's time is missing"
    names = listen.artist_names or []
    if listen.kind == KOITO:
        if not trim(listen.title):  # its importer makes an alias of the trimmed title
            return Reason.EMPTY_TITLE, "the title of the track is blank"
        if not names:
            return _fault_of_artists("the record lists no artist")
    elif listen.credit_names:
        names = names + listen.credit_names
    if not all(map(trim, names)):
        return _fault_of_artists(f"one of the artists {names!r} has no name")
    return None


def _fault_of_artists(detail: str) -> Fault:
    return Reason.EMPTY_ARTIST, detail[:MAX_DETAIL]


def _digester(options: ListenOptions) -> Callable[[_Listen], bytes]:
    """Digests of 16 bytes of all that decides what a listen is resolved to, and what its resolution changes.

    JSON in ASCII tells all values apart and is the same in every Python. Of the texts nothing is folded or trimmed.
    """
    encode = json.JSONEncoder(separators=(",", ":")).encode
    start = blake2b(encode([RULES_VERSION, options.artist_separators or DEFAULT_SEPARATORS]).encode(), digest_size=16)

    def digest(listen: _Listen) -> bytes:
        values: list[object] = [
            listen.kind == KOITO,
            listen.artist,
            listen.artist_names or [],
            listen.artist_mbids or [],
            listen.title,
            listen.recording_mbid,
            listen.album or "",
            listen.release_mbid,
            listen.duration or 0,
        ]
        if listen.kind == KOITO:
            values += [
                listen.track_aliases or [],
                listen.album_aliases or [],
                listen.artist_aliases or [],
                listen.artist_images or [],
                listen.album_image or "",
                bool(listen.various_artists),
            ]
        else:
            values += [listen.credit_names or [], listen.credit_mbids or []]
        state = start.copy()
        state.update(encode(values).encode("ascii"))
        return state.digest()

    return digest


class _SubmittedListens:
    """The rules of Koito's listen submission, which all importers but its own share."""

    def __init__(self, index: KoitoIndex, separators: Separators) -> None:
        self._index = index
        self._separators = separators

    def resolve(self, listen: _Listen) -> Place | None:
        """Find or make the artists, the album and the track of a listen. None, and nothing made, without artists."""
        index = self._index
        title = listen.title or ""
        artists = self._artists(listen)
        if not artists:
            return None
        release = self._release(listen.album or title, listen.release_mbid, artists[0])
        if release is None:
            release = index.add_release(listen.album or title, artists, listen.release_mbid)
        else:
            index.link_release(release, artists)
        duration = listen.duration or 0
        mbid = listen.recording_mbid
        track = index.track_by_mbid(mbid) if mbid is not None else None
        if track is None:
            track = index.track_by_info(title, release, artists)
            if track is None:
                track = index.add_track(title, release, artists, mbid, duration)
            elif mbid is not None:
                index.fill_track_mbid(track, mbid)
        index.fill_duration(track, duration)
        return artists[0], release, track

    def _release(self, title: str, mbid: str | None, artist: int) -> int | None:
        index = self._index
        release = index.release_by_mbid(mbid) if mbid is not None else None
        if release is None:
            release = index.release_by_title(title, artist)
            if release is not None and mbid is not None:
                index.fill_release_mbid(release, mbid)
        return release

    def _artists(self, listen: _Listen) -> list[int]:
        """The artists of a listen, each once. Koito counts repeats when it goes from one step to the next."""
        names = [trim(name) for name in listen.artist_names or ()]
        mbids = listen.artist_mbids or ()
        seen: set[str | None] = set()
        result = self._by_credits(listen, seen) if listen.credit_names else []
        if len(mbids) > len(result):
            result += self._by_mbids(listen, names, seen)
        if len(names) > len(result):
            result += self._by_names(names, result)
        if not result:  # and then there were no names
            result = self._by_names(self._parse(listen), result)
        return list(dict.fromkeys(result)) if len(result) > 1 else result

    def _parse(self, listen: _Listen) -> list[str]:
        return parse_artists(listen.artist or "", listen.title or "", self._separators)

    def _by_credits(self, listen: _Listen, seen: set[str | None]) -> list[int]:
        """By the mapping of names to MBIDs, which gives an artist that is found by name this MBID in any case.

        `seen` gets the MBIDs that Koito takes the artists to have for the rest of the listen: that of the mapping for
        one who is found by name, even if it is none.
        """
        index = self._index
        found = []
        for untrimmed, mbid in zip(listen.credit_names or (), listen.credit_mbids or (), strict=True):
            name = trim(untrimmed)
            artist = index.artist_by_mbid(mbid) if mbid is not None else None
            if artist is None:
                artist = index.artist_by_name(name)
                if artist is not None and mbid is not None:
                    index.set_artist_mbid(artist, mbid)
            if artist is not None or mbid is not None:
                seen.add(mbid)
            if artist is None:
                artist = index.add_artist(name, mbid)
            found.append(artist)
        return found

    def _by_mbids(self, listen: _Listen, names: list[str], seen: set[str | None]) -> list[int]:
        """By the list of MBIDs, until one is missing or unknown: then by names alone, and what was found is dropped."""
        found: list[int] = []
        for mbid in listen.artist_mbids or ():
            if mbid in seen:
                continue
            if mbid is None:
                return self._by_names(names, found)
            artist = self._index.artist_by_mbid(mbid)
            if artist is None:
                return self._by_names(names or self._parse(listen), found)
            seen.add(mbid)
            found.append(artist)
        return found

    def _by_names(self, names: list[str], skipped: list[int]) -> list[int]:
        """By names, but for those of artists who are listed already, whatever the case."""
        index = self._index
        listed: set[str] = set()
        for artist in skipped:
            listed |= index.folded_aliases(artist)
        found = []
        for name in names:
            if listed and fold_name(name) in listed:
                continue
            known = index.artist_by_name(name)
            if known is None:
                known = index.add_artist(name, None)
            if len(names) > 1:
                listed |= index.folded_aliases(known)
            found.append(known)
        return found


class _ExportedListens:
    """The rules of Koito's importer of its own export: what it finds stays as it is."""

    def __init__(self, index: KoitoIndex) -> None:
        self._index = index

    def resolve(self, listen: _Listen) -> Place:
        """Find or make the artists, the album and the track of a listen."""
        index = self._index
        title = listen.title or ""
        artists = self._artists(listen)
        mbid = listen.release_mbid
        album = listen.album or title
        release = index.release_by_title(album, artists[0]) if mbid is None else index.release_by_mbid(mbid)
        if release is None:
            release = index.add_release(
                album,
                artists,
                mbid,
                various_artists=bool(listen.various_artists),
                image_source=listen.album_image or None,
                aliases=listen.album_aliases or (),
            )
        mbid = listen.recording_mbid
        track = index.track_by_info(title, release, artists) if mbid is None else index.track_by_mbid(mbid)
        if track is None:
            track = index.add_track(title, release, artists, mbid, listen.duration or 0)
            index.add_track_aliases(track, title, listen.track_aliases or ())
        return artists[0], release, track

    def _artists(self, listen: _Listen) -> list[int]:
        index = self._index
        names = listen.artist_names or []
        lists = (listen.artist_mbids or (), listen.artist_aliases or (), listen.artist_images or ())
        found: dict[int, None] = {}
        for untrimmed, mbid, aliases, image in zip_longest(names, *lists):
            name = trim(untrimmed)
            artist = index.artist_by_name(name) if mbid is None else index.artist_by_mbid(mbid)
            if artist is None:
                artist = index.add_artist(name, mbid, image_source=image or None, aliases=aliases or ())
            found[artist] = None
        return list(found)
