"""Listens become a plan for Koito: its own rules, replayed listen by listen on what its tables hold.

The kinds maloja, spotify, lastfm and listenbrainz share the rules of Koito's listen submission, with MusicBrainz and
the image providers switched off; its own export (kind "koito") has rules of its own. This much differs on purpose:

- Names are trimmed before they are looked up; Koito makes an artist of an untrimmed one again for each listen.
- A listen has an artist once. With one listed twice Koito finds no track and makes another for each listen.
- A listen without artists, or with a nameless one, is rejected and leaves nothing behind; Koito stops half-way.
- An album without a title is called like the track, also in Koito's own export, where Koito makes a nameless album
  for each listen. It does not write such exports itself.
"""

from collections.abc import Sequence
from itertools import zip_longest

import pyarrow as pa

from bookpipe.model.listen_plans import NEW_LISTENS, KoitoImage, ListenKey, ListenPlan, Resolution, Wanted
from bookpipe.model.listens import fold_name
from bookpipe.model.rejections import Reason
from bookpipe.resolve.koito_image import KoitoIndex
from bookpipe.resolve.listen_inputs import (
    ListenInput,
    ListenOptions,
    PreparedListens,
    fault_of_artists,
    prepare_listens,
)

__all__ = ["ListenOptions", "PreparedListens", "prepare_listens", "resolve_listens", "wanted"]

SAMPLES = 3  # times that a resolution remembers

Place = tuple[int, int, int]  # first artist, release and track of a listen


def wanted(listens: PreparedListens) -> Wanted:
    """Every text by which `resolve_listens` could look anything up for these listens.

    Rows that have a reason, or that are rejected for what is in them, are passed over.
    """
    live = [row for row in range(len(listens.inputs)) if _is_live(listens, row)]
    inputs = list({id(listens.inputs[row]): listens.inputs[row] for row in live}.values())
    mbids = (mbid for one in inputs for mbid in (*one.said.artist_mbids, *one.said.credit_mbids))
    keys: tuple[ListenKey, ...] = ()
    if inputs and inputs[0].digest:
        keys = tuple(
            ListenKey(row, one.digest, listens.seconds[row] or 0, listens.microseconds[row], one.duration)
            for row, one in zip(live, [listens.inputs[row] for row in live], strict=True)
        )
    return Wanted(
        artist_names=frozenset(name for one in inputs for name in (*one.names, *one.credit_names, *one.parsed)),
        artist_mbids=frozenset(mbid for mbid in mbids if mbid is not None),
        release_titles=frozenset(one.album for one in inputs),
        release_mbids=frozenset(one.said.release_mbid for one in inputs if one.said.release_mbid is not None),
        track_titles=frozenset(one.title for one in inputs),
        recording_mbids=frozenset(one.said.recording_mbid for one in inputs if one.said.recording_mbid is not None),
        keys=keys,
    )


def _is_live(listens: PreparedListens, row: int) -> bool:
    return listens.reasons[row] is None and listens.inputs[row].fault is None and listens.seconds[row] is not None


def resolve_listens(listens: PreparedListens, image: KoitoImage) -> ListenPlan:
    """What these listens add to a Koito database of which `image` holds all that is `wanted` for them.

    Rows are replayed in their order. Those of `image.loaded` end as existing unseen; those whose digest is in
    `image.followed` become listens of that track and change nothing else, but for a duration that was unknown. A
    resolution names the artist and the album that the listen was resolved to, whatever album its track is on; for a
    followed track it names the track's own, and there is none when the image does not have that track.
    """
    replay = _Replay(image)
    plan_outcomes: list[str] = []
    reasons: list[str | None] = list(listens.reasons)
    details: list[str | None] = list(listens.details)
    columns = (listens.inputs, listens.seconds, listens.microseconds, listens.clients)
    for row, (one, seconds, microseconds, client) in enumerate(zip(*columns, strict=True)):
        if reasons[row] is not None:
            plan_outcomes.append("rejected")
            continue
        outcome = None
        if one.fault is not None:
            fault = one.fault
        elif seconds is None:
            fault = (Reason.BAD_TIME, "the record's time is missing")
        elif row in image.loaded:
            outcome = "existing"
        else:
            outcome = replay.submit(row, one, seconds, microseconds, client)
            if outcome is None:
                fault = fault_of_artists(f"no name is left of {one.said.artist!r}")
        if outcome is None:
            outcome, reasons[row], details[row] = "rejected", fault[0].value, fault[1]
        else:
            details[row] = None
        plan_outcomes.append(outcome)
    plan = replay.finish()
    plan.outcomes, plan.reasons, plan.details = plan_outcomes, reasons, details
    return plan


class _Replay:
    """The listens of a chunk, one after the other."""

    def __init__(self, image: KoitoImage) -> None:
        self._image = image
        self._index = KoitoIndex(image)
        self._submitted = _SubmittedListens(self._index)
        self._exported = _ExportedListens(self._index)
        self._new: list[tuple[int, int, int, int, str]] = []  # columns of NEW_LISTENS
        self._times: set[tuple[int, int, int]] = set()
        self._samples: dict[tuple[bytes, int], tuple[int, int, list[int]]] = {}

    def submit(self, row: int, one: ListenInput, seconds: int, microseconds: int, client: str) -> str | None:
        """The outcome of a listen; None, and nothing was added, when no artist is left of it."""
        track = self._image.followed.get(one.digest) if one.digest else None
        if track is None:
            place = (self._exported if one.exported else self._submitted).resolve(one)
            if place is None:
                return None
            track = place[2]
        else:
            place = self._index.track_place(track)
            if place is not None:
                self._index.fill_duration(track, one.duration)
        if one.digest and place is not None:
            sample = self._samples.get((one.digest, track))
            if sample is None:
                self._samples[one.digest, track] = (place[0], place[1], [seconds])
            elif len(sample[2]) < SAMPLES and seconds not in sample[2]:
                sample[2].append(seconds)
        time = (track, seconds, 0 if self._image.whole_seconds else microseconds)
        if time in self._times:
            return "existing"
        self._times.add(time)
        self._new.append((row, *time, client))
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
        plan.resolved_tracks = {track: self._index.track_facts(track) for _, track in self._samples}
        return plan


class _SubmittedListens:
    """The rules of Koito's listen submission, which all importers but its own share."""

    def __init__(self, index: KoitoIndex) -> None:
        self._index = index

    def resolve(self, listen: ListenInput) -> Place | None:
        """Find or make the artists, the album and the track of a listen. None, and nothing made, without artists."""
        index = self._index
        said, title = listen.said, listen.title
        artists = self._artists(listen)
        if not artists:
            return None
        release = self._release(listen.album, said.release_mbid, artists[0])
        if release is None:
            release = index.add_release(listen.album, artists, said.release_mbid)
        else:
            index.link_release(release, artists)
        duration = listen.duration
        mbid = said.recording_mbid
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

    def _artists(self, listen: ListenInput) -> list[int]:
        """The artists of a listen, each once. Koito counts repeats when it goes from one step to the next."""
        if len(listen.names) == 1 and not (listen.credit_names or listen.said.artist_mbids):
            artist = self._index.artist_by_name(listen.names[0])
            if artist is not None:  # as in most listens of most people
                return [artist]
        self._index.start_listen()
        seen: set[str | None] = set()
        result = self._by_credits(listen, seen) if listen.credit_names else []
        if len(listen.said.artist_mbids) > len(result):
            result += self._by_mbids(listen, seen)
        if len(listen.names) > len(result):
            result += self._by_names(listen.names, result)
        if not result:  # and then there were no names
            result = self._by_names(listen.parsed, result)
        return list(dict.fromkeys(result)) if len(result) > 1 else result

    def _by_credits(self, listen: ListenInput, seen: set[str | None]) -> list[int]:
        """By the mapping of names to MBIDs, which gives an artist that is found by name this MBID in any case.

        `seen` gets the MBIDs that Koito takes the artists to have for the rest of the listen: that of the mapping for
        one who is found by name, even if it is none.
        """
        index = self._index
        found = []
        for name, mbid in zip(listen.credit_names, listen.said.credit_mbids, strict=True):
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

    def _by_mbids(self, listen: ListenInput, seen: set[str | None]) -> list[int]:
        """By the list of MBIDs, until one is missing or unknown: then by names alone, and what was found is dropped."""
        found: list[int] = []
        for mbid in listen.said.artist_mbids:
            if mbid in seen:
                continue
            if mbid is None:
                return self._by_names(listen.names, found)
            artist = self._index.artist_by_mbid(mbid)
            if artist is None:
                return self._by_names(listen.names or listen.parsed, found)
            seen.add(mbid)
            found.append(artist)
        return found

    def _by_names(self, names: Sequence[str], skipped: list[int]) -> list[int]:
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

    def resolve(self, listen: ListenInput) -> Place:
        """Find or make the artists, the album and the track of a listen."""
        index = self._index
        said, title, album = listen.said, listen.title, listen.album
        artists = self._artists(listen)
        mbid = said.release_mbid
        release = index.release_by_title(album, artists[0]) if mbid is None else index.release_by_mbid(mbid)
        if release is None:
            release = index.add_release(
                album,
                artists,
                mbid,
                various_artists=bool(said.various_artists),
                image_source=said.album_image or None,
                aliases=said.album_aliases,
            )
        mbid = said.recording_mbid
        track = index.track_by_info(title, release, artists) if mbid is None else index.track_by_mbid(mbid)
        if track is None:
            track = index.add_track(title, release, artists, mbid, said.duration or 0)
            index.add_track_aliases(track, title, said.track_aliases)
        return artists[0], release, track

    def _artists(self, listen: ListenInput) -> list[int]:
        index, said = self._index, listen.said
        lists = (said.artist_mbids, said.artist_aliases, said.artist_images)
        found: dict[int, None] = {}
        for name, mbid, aliases, image in zip_longest(listen.names, *lists):
            artist = index.artist_by_name(name) if mbid is None else index.artist_by_mbid(mbid)
            if artist is None:
                artist = index.add_artist(name, mbid, image_source=image or None, aliases=aliases or ())
            found[artist] = None
        return list(found)
