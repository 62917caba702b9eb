"""Exports of scrobbles as the five services write them, for the demo, the tests and the benchmarks.

`write_*` writes given listens; `make_*` draws a history and adds the odd records that real exports have. Both stream,
and the same arguments give the same bytes.
"""

import json
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from bookpipe.demo import scrobble_oddities
from bookpipe.demo.scrobble_history import END, SampleListen, draw_history
from bookpipe.demo.scrobble_oddities import Broken, Oddity, Record

__all__ = [
    "ExportFacts",
    "SampleListen",
    "make_demo_exports",
    "make_koito",
    "make_lastfm",
    "make_listenbrainz",
    "make_maloja",
    "make_spotify",
    "write_koito",
    "write_lastfm",
    "write_listenbrainz",
    "write_maloja",
    "write_spotify",
]

PAGE = 200  # records of one of Last.fm's pages
SPOTIFY_FILE = 16_000  # plays in one of Spotify's files
_ZIP_DATE = (2025, 6, 1, 0, 0, 0)


@dataclass(frozen=True)
class ExportFacts:
    """What a made export holds: records, and how many of them are no listens, by reason."""

    records: int
    reasons: Mapping[str, int]


def make_maloja(
    path: Path, listens: int = 49_050, artists: int = 5_589, albums: int = 2_628, seed: int = 1, *, odd: bool = True
) -> ExportFacts:
    """Maloja's export of so many records, oldest first."""
    making = _Making(listens, artists, albums, seed, scrobble_oddities.MALOJA if odd else ())
    _write_maloja(path, making.records(_maloja_record), api_shape=False)
    return making.facts()


def make_spotify(
    path: Path, listens: int = 20_000, artists: int = 2_500, albums: int = 1_800, seed: int = 2, *, odd: bool = True
) -> ExportFacts:
    """Spotify's extended history: one JSON file, or the whole zip when `path` ends in .zip.

    With `odd`, more than a quarter of the plays were skipped, as in real life.
    """
    making = _Making(listens, artists, albums, seed, scrobble_oddities.SPOTIFY if odd else (), share=0.3)
    _write_spotify(path, making.records(_spotify_record))
    return making.facts()


def make_lastfm(
    path: Path, listens: int = 20_000, artists: int = 2_500, albums: int = 1_800, seed: int = 3, *, odd: bool = True
) -> ExportFacts:
    """Last.fm's pages of lastfm.ghan.nl, newest first."""
    making = _Making(listens, artists, albums, seed, scrobble_oddities.LASTFM if odd else ())
    _write_lastfm(path, reversed(list(making.records(_lastfm_record))))
    return making.facts()


def make_listenbrainz(
    path: Path, listens: int = 20_000, artists: int = 2_500, albums: int = 1_800, seed: int = 4, *, odd: bool = True
) -> ExportFacts:
    """ListenBrainz' zip with one file for each month."""
    making = _Making(listens, artists, albums, seed, scrobble_oddities.LISTENBRAINZ if odd else ())
    _write_listenbrainz(path, making.records(_listenbrainz_record))
    return making.facts()


def make_koito(
    path: Path, listens: int = 20_000, artists: int = 2_500, albums: int = 1_800, seed: int = 5, *, odd: bool = True
) -> ExportFacts:
    """Koito's own export, version 1."""
    making = _Making(listens, artists, albums, seed, scrobble_oddities.KOITO if odd else ())
    _write_koito(path, making.records(_koito_record))
    return making.facts()


def write_maloja(path: Path, listens: Iterable[SampleListen], *, api_shape: bool = False) -> None:
    _write_maloja(path, map(_maloja_record, listens), api_shape=api_shape)


def write_spotify(path: Path, listens: Iterable[SampleListen]) -> None:
    _write_spotify(path, map(_spotify_record, listens))


def write_lastfm(path: Path, listens: Iterable[SampleListen]) -> None:
    """In the order given; the real service's is newest first."""
    _write_lastfm(path, map(_lastfm_record, listens))


def write_listenbrainz(path: Path, listens: Iterable[SampleListen]) -> None:
    """A file for each run of listens of one month."""
    _write_listenbrainz(path, map(_listenbrainz_record, listens))


def write_koito(path: Path, listens: Iterable[SampleListen]) -> None:
    _write_koito(path, map(_koito_record, listens))


class _Making:
    """Draws a history, and makes some of its records odd."""

    def __init__(
        self, listens: int, artists: int, albums: int, seed: int, oddities: tuple[Oddity, ...], share: float = 0.003
    ) -> None:
        self._listens = listens
        self._oddities = oddities
        self._odd = max(len(oddities), round(listens * share)) if oddities and listens > 4 * len(oddities) else 0
        self._history = draw_history(listens - self._odd, artists, albums, seed)
        self._rng = random.Random(f"oddities {seed}")
        self._reasons: Counter[str] = Counter()

    def records(self, render: Callable[[SampleListen], Record]) -> Iterator[Any]:
        """Rendered listens; after some of them a copy of a later second, odd in one way."""
        after = Counter(self._rng.choices(range(self._listens - self._odd), k=self._odd))
        made = 0
        for n, listen in enumerate(self._history):
            yield render(listen)
            for _ in range(after[n]):
                change, reason = self._oddities[made % len(self._oddities)]
                made += 1
                if reason is not None:
                    self._reasons[reason.value] += 1
                record = render(replace(listen, time=listen.time + 30))
                changed = change(record)
                yield record if changed is None else changed

    def facts(self) -> ExportFacts:
        return ExportFacts(self._listens, dict(self._reasons))


def _dump(record: Any, *, ascii_only: bool = False) -> str:
    return record if isinstance(record, Broken) else json.dumps(record, ensure_ascii=ascii_only)


def _write_list(file: TextIO, records: Iterable[Any], *, ascii_only: bool = False) -> None:
    file.write("[")
    for n, record in enumerate(records):
        file.write((",\n" if n else "\n") + _dump(record, ascii_only=ascii_only))
    file.write("\n]")


def _maloja_record(listen: SampleListen) -> Record:
    first, *others = listen.artists
    # Maloja names a guest twice: on its own, and joined to the main artist.
    artists = [*others, " • ".join(listen.artists)] if others else [first]
    album = None if listen.album is None else {"artists": [first], "albumtitle": listen.album}
    return {
        "time": listen.time,
        "track": {"artists": artists, "title": listen.title, "album": album, "length": listen.duration or None},
        "duration": None,
        "origin": "client:default",
    }


def _write_maloja(path: Path, records: Iterable[Any], *, api_shape: bool) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write('{"status": "ok", "list": ' if api_shape else f'{{"maloja": {{"export_time": {END}}}, "scrobbles": ')
        _write_list(file, records, ascii_only=True)
        file.write(', "pagination": {"page": 0, "next_page": null}}' if api_shape else "}")


def _spotify_record(listen: SampleListen) -> Record:
    return {
        "ts": _rfc3339(listen.time),
        "platform": "android",
        "ms_played": listen.duration * 1000,
        "conn_country": "CZ",
        "master_metadata_track_name": listen.title,
        "master_metadata_album_artist_name": listen.artists[0],
        "master_metadata_album_album_name": listen.album,
        "spotify_track_uri": "spotify:track:4cOdK2wGLETKBW3PvgPWqT",
        "episode_name": None,
        "episode_show_name": None,
        "reason_start": "trackdone",
        "reason_end": "trackdone",
        "shuffle": False,
        "skipped": False,
        "offline": False,
        "incognito_mode": False,
    }


def _write_spotify(path: Path, records: Iterable[Any]) -> None:
    if path.suffix != ".zip":
        with path.open("w", encoding="utf-8") as file:
            _write_list(file, records)
        return
    folder = "Spotify Extended Streaming History/"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, folder + "ReadMeFirst_ExtendedStreamingHistory.pdf", "%PDF-1.4\n")
        chunk: list[Any] = []
        number = 0
        for record in records:
            chunk.append(record)
            if len(chunk) == SPOTIFY_FILE:
                _add_spotify(archive, f"{folder}Streaming_History_Audio_2010-2025_{number:02d}.json", chunk)
                chunk = []
                number += 1
        if chunk or not number:
            _add_spotify(archive, f"{folder}Streaming_History_Audio_2010-2025_{number:02d}.json", chunk)
        _add_spotify(archive, f"{folder}Streaming_History_Video_2018-2025.json", chunk[:3])


def _add_spotify(archive: zipfile.ZipFile, name: str, records: list[Any]) -> None:
    _add(archive, name, "[" + ",".join(map(_dump, records)) + "]")


def _lastfm_record(listen: SampleListen) -> Record:
    when = datetime.fromtimestamp(listen.time, timezone.utc)
    artist_mbid = listen.artist_mbids[0] if listen.artist_mbids else None
    return {
        "artist": {"mbid": artist_mbid or "", "#text": listen.artists[0]},
        "streamable": "0",
        "image": [{"size": "small", "#text": "https://lastfm.freetls.fastly.net/i/u/34s/none.png"}],
        "mbid": listen.recording_mbid or "",
        "album": {"mbid": listen.release_mbid or "", "#text": listen.album or ""},
        "name": listen.title,
        "url": "https://www.last.fm/music/",
        "date": {"uts": str(listen.time), "#text": f"{when:%d} {_MONTHS[when.month - 1]} {when:%Y, %H:%M}"},
    }


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _write_lastfm(path: Path, records: Iterable[Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        pages = groupby(enumerate(records), lambda numbered: numbered[0] // PAGE)
        for page, numbered in pages:
            file.write(",\n" if page else "\n")
            file.write('{"track": ')
            _write_list(file, (record for _, record in numbered), ascii_only=True)
            file.write(f', "@attr": {{"user": "listener", "page": "{page + 1}", "perPage": "{PAGE}"}}}}')
        file.write("\n]")


def _listenbrainz_record(listen: SampleListen) -> Record:
    known = [mbid for mbid in listen.artist_mbids if mbid]
    info: Record = {"duration_ms": listen.duration * 1000, "media_player": listen.client}
    mapping = None
    if listen.recording_mbid and len(known) == len(listen.artists):
        info |= {"artist_names": list(listen.artists), "artist_mbids": known, "recording_mbid": listen.recording_mbid}
        mapping = {
            "recording_mbid": listen.recording_mbid,
            "release_mbid": listen.release_mbid or "",
            "artist_mbids": known,
            "artists": [
                {"artist_mbid": mbid, "artist_credit_name": name, "join_phrase": ""}
                for name, mbid in zip(listen.artists, known, strict=True)
            ],
        }
    return {
        "listened_at": listen.time,
        "inserted_at": listen.time + 200,
        "track_metadata": {
            "artist_name": " & ".join(listen.artists),
            "track_name": listen.title,
            "release_name": listen.album,
            "additional_info": info,
            "mbid_mapping": mapping,
        },
    }


def _write_listenbrainz(path: Path, records: Iterable[Any]) -> None:
    month = (2005, 1)

    def month_of(record: Any) -> tuple[int, int]:
        nonlocal month
        if isinstance(record, dict) and isinstance(record.get("listened_at"), int) and record["listened_at"] < 10**11:
            when = datetime.fromtimestamp(record["listened_at"], timezone.utc)
            month = (when.year, when.month)
        return month

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "user.json", '{"user_id": 1, "username": "listener"}')
        _add(archive, "feedback.jsonl", '{"score": 1}\n')
        for n, ((year, number), of_month) in enumerate(groupby(records, month_of)):
            name = f"listens/{year}/{number}.jsonl"
            if name in archive.NameToInfo:  # after a time that was out of order
                name = f"listens/{year}/{number}-{n}.jsonl"
            _add(archive, name, "".join(_dump(record) + "\n" for record in of_month))


def _koito_record(listen: SampleListen) -> Record:
    mbids = listen.artist_mbids or (None,) * len(listen.artists)
    return {
        "listened_at": _rfc3339(listen.time),
        "client": listen.client,
        "track": {"mbid": listen.recording_mbid, "duration": listen.duration, "aliases": _aliases(listen.title)},
        "album": {
            "image_url": "https://coverartarchive.org/release/front" if listen.release_mbid else "",
            "mbid": listen.release_mbid,
            "aliases": _aliases(listen.title if listen.album is None else listen.album),
            "various_artists": False,
        },
        "artists": [
            {"image_url": "", "mbid": mbid, "is_primary": False, "aliases": _aliases(name, f"{name} (alias)")}
            for name, mbid in zip(listen.artists, mbids, strict=True)
        ],
    }


def _aliases(name: str, *others: str) -> list[Record]:
    """The name's place among its aliases is not always the first."""
    main = {"alias": name, "source": "Canonical", "is_primary": True}
    more = [{"alias": other, "source": "MusicBrainz", "is_primary": False} for other in others]
    return [*more, main] if len(name) % 2 else [main, *more]


def _write_koito(path: Path, records: Iterable[Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write('{"version": "1", "exported_at": "2025-06-01T00:49:54Z", "user": "listener", "listens": ')
        _write_list(file, records)
        file.write("}")


def _rfc3339(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    info = zipfile.ZipInfo(name, _ZIP_DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, text.encode())


def make_demo_exports(folder: Path) -> dict[str, ExportFacts]:
    """One export of each kind, named as their services name them."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "maloja": make_maloja(folder / "maloja_export.json", 6_000, 700, 350),
        "spotify": make_spotify(folder / "my_spotify_data.zip", 3_000, 400, 300),
        "lastfm": make_lastfm(folder / "recenttracks-demo.json", 2_000, 300, 250),
        "listenbrainz": make_listenbrainz(folder / "listenbrainz_demo.zip", 2_000, 300, 250),
        "koito": make_koito(folder / "koito_export.json", 1_000, 200, 150),
    }
