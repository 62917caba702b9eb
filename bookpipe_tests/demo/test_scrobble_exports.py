"""Made exports are what their makers say, and readers find in them what was written."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bookpipe.demo import scrobble_exports as made
from bookpipe.demo.scrobble_exports import ExportFacts, SampleListen
from bookpipe.demo.scrobble_history import END, draw_history
from bookpipe.model.listens import fold_name, trim
from bookpipe.sources.scrobbles import count_rows, open_export, read_listens

NOW = 1_760_000_000.0
MAKERS: dict[str, tuple[str, Callable[..., ExportFacts]]] = {
    "maloja": ("m.json", made.make_maloja),
    "spotify": ("s.json", made.make_spotify),
    "lastfm": ("l.json", made.make_lastfm),
    "listenbrainz": ("b.zip", made.make_listenbrainz),
    "koito": ("k.json", made.make_koito),
}

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(trim)
MBIDS = st.uuids().map(str)


@st.composite
def listens(draw: st.DrawFn) -> SampleListen:
    artists = tuple(
        draw(st.lists(NAMES.filter(lambda name: "•" not in name), min_size=1, max_size=3, unique_by=fold_name))
    )
    return SampleListen(
        time=draw(st.integers(86_400, int(NOW))),
        title=draw(NAMES),
        artists=artists,
        album=draw(st.none() | NAMES),
        duration=draw(st.integers(0, 20_000)),
        recording_mbid=draw(st.none() | MBIDS),
        release_mbid=draw(st.none() | MBIDS),
        artist_mbids=tuple(draw(st.none() | MBIDS) for _ in artists),
        client=draw(st.just("") | NAMES),
    )


def read(path: Path) -> list[dict[str, Any]]:
    export = open_export(path)
    rows: list[dict[str, Any]] = read_listens(export, 1, count_rows(export), now=NOW).to_pylist()
    assert [row["reason"] for row in rows] == [None] * len(rows)
    return rows


def compare(rows: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [{key: row[key] for key in want} for row, want in zip(rows, wanted, strict=True)] == wanted


round_trip = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@round_trip
@given(st.lists(listens(), max_size=5), st.booleans())
def test_maloja_round_trips(tmp_path: Path, sample: list[SampleListen], api_shape: bool) -> None:
    made.write_maloja(tmp_path / "maloja.json", sample, api_shape=api_shape)
    wanted = [
        {
            "listened_at": s.time,
            "title": s.title,
            "artist": " • ".join(s.artists),
            "artist_names": list(s.artists),
            "album": s.album or "",
            "duration": 0,
            "client": "maloja",
        }
        for s in sample
    ]
    compare(read(tmp_path / "maloja.json"), wanted)


@round_trip
@given(st.lists(listens(), max_size=5), st.sampled_from(["Streaming_History_Audio_1.json", "my_spotify_data.zip"]))
def test_spotify_round_trips(tmp_path: Path, sample: list[SampleListen], name: str) -> None:
    made.write_spotify(tmp_path / name, sample)
    wanted = [
        {
            "listened_at": s.time,
            "title": s.title,
            "artist": s.artists[0],
            "artist_names": None,
            "album": s.album or "",
            "duration": s.duration,
            "client": "spotify",
        }
        for s in sample
    ]
    compare(read(tmp_path / name), wanted)


@round_trip
@given(st.lists(listens(), max_size=5))
def test_lastfm_round_trips(tmp_path: Path, sample: list[SampleListen]) -> None:
    made.write_lastfm(tmp_path / "recenttracks.json", sample)
    wanted = [
        {
            "listened_at": s.time,
            "title": s.title,
            "artist": s.artists[0],
            "artist_mbids": [s.artist_mbids[0]],
            "credit_names": [s.artists[0]] if s.artist_mbids[0] else [],
            "credit_mbids": [s.artist_mbids[0]] if s.artist_mbids[0] else [],
            "album": s.album or s.title,
            "recording_mbid": s.recording_mbid,
            "release_mbid": s.release_mbid,
            "client": "lastfm",
        }
        for s in sample
    ]
    compare(read(tmp_path / "recenttracks.json"), wanted)


@round_trip
@given(st.lists(listens(), min_size=1, max_size=5))
def test_listenbrainz_round_trips(tmp_path: Path, sample: list[SampleListen]) -> None:
    made.write_listenbrainz(tmp_path / "b.zip", sample)

    def want(s: SampleListen) -> dict[str, Any]:
        known = bool(s.recording_mbid and all(s.artist_mbids))
        return {
            "listened_at": s.time,
            "title": s.title,
            "artist": " & ".join(s.artists),
            "artist_names": list(s.artists) if known else [],
            "artist_mbids": list(s.artist_mbids) if known else [],
            "credit_names": list(s.artists) if known else [],
            "credit_mbids": list(s.artist_mbids) if known else [],
            "album": s.album or "",
            "recording_mbid": s.recording_mbid if known else None,
            "release_mbid": s.release_mbid if known else None,
            "duration": s.duration,
            "client": s.client,
        }

    compare(read(tmp_path / "b.zip"), list(map(want, sample)))


@round_trip
@given(st.lists(listens(), max_size=5))
def test_koito_round_trips(tmp_path: Path, sample: list[SampleListen]) -> None:
    made.write_koito(tmp_path / "koito.json", sample)
    wanted = [
        {
            "listened_at": s.time,
            "title": s.title,
            "artist_names": list(s.artists),
            "artist_mbids": list(s.artist_mbids),
            "album": s.title if s.album is None else s.album,
            "recording_mbid": s.recording_mbid,
            "release_mbid": s.release_mbid,
            "duration": s.duration,
            "client": s.client,
            "track_aliases": [s.title],
            "various_artists": False,
        }
        for s in sample
    ]
    rows = read(tmp_path / "koito.json")
    compare(rows, wanted)
    for row, s in zip(rows, sample, strict=True):
        assert [set(a) for a in row["artist_aliases"]] == [{name, f"{name} (alias)"} for name in s.artists]


@pytest.mark.parametrize("kind", MAKERS)
def test_a_made_export_holds_what_its_maker_says(kind: str, tmp_path: Path) -> None:
    name, make = MAKERS[kind]
    facts = make(tmp_path / name, 1_500, 200, 120, 3)
    export = open_export(tmp_path / name)
    assert export.kind == kind
    assert count_rows(export) == facts.records == 1_500
    reasons = Counter(reason for reason in read_listens(export, 1, 1_500, now=NOW)["reason"].to_pylist() if reason)
    assert dict(reasons) == dict(facts.reasons)
    assert len(facts.reasons) >= 3


@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_seed_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    name, make = MAKERS[kind]
    contents = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / folder).mkdir()
        make(tmp_path / folder / name, 500, 100, 50, seed)
        contents.append((tmp_path / folder / name).read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_without_odd_records_all_are_listens_of_exactly_these_artists_and_albums(tmp_path: Path) -> None:
    facts = made.make_maloja(tmp_path / "m.json", 3_000, 400, 150, odd=False)
    assert facts == ExportFacts(3_000, {})
    document = json.loads((tmp_path / "m.json").read_text())
    tracks = [scrobble["track"] for scrobble in document["scrobbles"]]
    assert len(tracks) == 3_000
    assert len({track["album"]["albumtitle"] for track in tracks if track["album"]}) == 150
    assert [scrobble["time"] for scrobble in document["scrobbles"]] == sorted(
        scrobble["time"] for scrobble in document["scrobbles"]
    )
    read(tmp_path / "m.json")


def test_a_history_is_skewed_and_has_guests_shared_albums_and_listens_without_an_album() -> None:
    history = list(draw_history(20_000, 1_000, 400, 1))
    artists = Counter(listen.artists[0] for listen in history)
    assert len(artists) == 1_000
    assert len({listen.album for listen in history} - {None}) == 400
    assert sum(n for _, n in artists.most_common(100)) > 0.5 * len(history)
    assert min(artists.values()) <= 2
    assert any(len(listen.artists) == 2 for listen in history)
    assert any("(feat. " in listen.title for listen in history)
    assert any(listen.album is None for listen in history)
    owners: dict[str, set[str]] = {}
    for listen in history:
        if listen.album is not None:
            owners.setdefault(listen.album, set()).add(listen.artists[0])
    assert max(map(len, owners.values())) > 3
    assert history[-1].time == END
    assert all(a.time < b.time for a, b in pairwise(history))


def test_a_million_listens_fit_between_the_years() -> None:
    first = next(iter(draw_history(200_000, 100, 50, 1)))
    assert first.time > END - 20 * 365 * 86_400


def test_fewer_listens_than_artists_are_no_obstacle(tmp_path: Path) -> None:
    for kind, (name, make) in MAKERS.items():
        assert make(tmp_path / name, 3, 50, 20).records == 3
        assert count_rows(open_export(tmp_path / name)) == 3, kind
