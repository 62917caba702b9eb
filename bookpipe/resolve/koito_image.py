"""A Koito database as its look-ups see it, in memory, with what a chunk of listens adds to it.

Every method is one statement of Koito's, so that its rules can be replayed listen by listen: they see what the
listens before have made. Entities are ids, or negative references to those that are new. Nothing is ever taken back.
"""

from collections.abc import Iterable, Sequence

from bookpipe.model.listen_plans import (
    ArtistLink,
    KoitoImage,
    ListenPlan,
    NewAlias,
    NewArtist,
    NewRelease,
    NewTrack,
    TrackFacts,
)
from bookpipe.model.listens import fold_name, trim

CANONICAL = "Canonical"  # Koito's word for the name or title that an entity was made with
MUSICBRAINZ = "MusicBrainz"
IMPORT = "Import"


class KoitoIndex:
    """The indexes over an image, and in `plan` what was added. `finish` completes the plan."""

    def __init__(self, image: KoitoImage) -> None:
        self.plan = ListenPlan()
        self._joint = image.alias_joint
        self._load_artists(image)
        self._load_releases(image)
        self._load_tracks(image)
        self._artist_images: list[str | None] = []
        self._new_releases: list[tuple[bool, str | None]] = []  # various artists, image source
        self._new_tracks: list[int] = []  # release

    def _load_artists(self, image: KoitoImage) -> None:
        self._artist_mbids = dict(image.artists)
        self._artist_of_mbid = {mbid: artist for artist, mbid in image.artists.items() if mbid is not None}
        self._artist_of_name: dict[str, int] = {}
        self._artist_aliases: dict[int, list[str]] = {}
        self._folded: dict[int, frozenset[str]] = {}
        self._known_artists = 0  # new ones that the listens before have made
        for artist, alias in image.artist_aliases:
            self._artist_of_name.setdefault(alias, artist)
            self._artist_aliases.setdefault(artist, []).append(alias)

    def _load_releases(self, image: KoitoImage) -> None:
        self._release_mbids = {release.id: release.mbid for release in image.releases}
        self._release_of_mbid = {r.mbid: r.id for r in image.releases if r.mbid is not None}
        self._release_titles: dict[int, list[str]] = {}
        # Where several releases of an artist have a title, the one that look-ups meet first.
        self._release_places: dict[tuple[int, str], int] = {}
        for place, release in enumerate(image.releases):
            if release.title is not None:
                self._release_titles.setdefault(release.id, []).append(release.title)
                self._release_places[release.id, release.title] = place
        self._places = len(image.releases)
        self._release_of_title: dict[tuple[str, int], int] = {}
        self._release_artists: dict[int, set[int]] = {}
        for known, artist in image.release_artists:
            self._index_link(known, artist)

    def _load_tracks(self, image: KoitoImage) -> None:
        self._track_mbids = {track.id: track.mbid for track in image.tracks}
        self._track_of_mbid = {t.mbid: t.id for t in image.tracks if t.mbid is not None}
        self._durations = {track.id: track.duration for track in image.tracks}
        self._releases = {track.id: track.release for track in image.tracks}
        # Of several primary titles the first in their order, as fingerprints have it.
        self._track_titles = {track.id: track.title for track in reversed(image.tracks)}
        self._tracks_of_title: dict[tuple[int, str], list[int]] = {}
        for track in sorted(image.tracks, key=lambda t: t.id):  # the lowest id wins, on either flavour
            if track.title is not None:
                self._tracks_of_title.setdefault((track.release, track.title), []).append(track.id)
        self._track_artists: dict[int, dict[int, None]] = {}
        for known, artist in image.track_artists:
            self._track_artists.setdefault(known, {})[artist] = None

    def artist_by_mbid(self, mbid: str) -> int | None:
        return self._artist_of_mbid.get(mbid)

    def artist_by_name(self, name: str) -> int | None:
        """The artist that has this alias, primary or not."""
        return self._artist_of_name.get(name)

    def start_listen(self) -> None:
        """Artists that are made from now on are new to the listen."""
        self._known_artists = len(self._artist_images)

    def folded_aliases(self, artist: int) -> frozenset[str]:
        """The aliases of an artist, without regard to case, as Koito reads them: on SQLite also in parts, unless the
        artist is new to the listen and was not read."""
        if -artist > self._known_artists:
            return frozenset(map(fold_name, self._artist_aliases[artist]))
        folded = self._folded.get(artist)
        if folded is None:
            aliases = self._artist_aliases.get(artist, [])
            parts = set(aliases)
            if self._joint is not None:
                parts.update(part for alias in aliases for part in alias.split(self._joint))
            folded = self._folded[artist] = frozenset(map(fold_name, parts))
        return folded

    def add_artist(
        self, name: str, mbid: str | None, *, image_source: str | None = None, aliases: Iterable[str] = ()
    ) -> int:
        """A new artist by this name, which is trimmed; no other has this MBID."""
        artist = -len(self._artist_images) - 1
        self._artist_images.append(image_source)
        self._artist_mbids[artist] = mbid
        if mbid is not None:
            self._artist_of_mbid[mbid] = artist
        names = self._artist_aliases[artist] = _write_aliases(
            self.plan.artist_aliases, artist, name, aliases, MUSICBRAINZ
        )
        for alias in names:
            self._artist_of_name.setdefault(alias, artist)
        return artist

    def set_artist_mbid(self, artist: int, mbid: str) -> None:
        """The artist has this MBID, which no other has, instead of what it had."""
        old = self._artist_mbids.get(artist)
        if old is not None:
            self._artist_of_mbid.pop(old, None)
        self._artist_mbids[artist] = mbid
        self._artist_of_mbid[mbid] = artist
        if artist > 0:
            self.plan.artist_mbids[artist] = mbid

    def release_by_mbid(self, mbid: str) -> int | None:
        return self._release_of_mbid.get(mbid)

    def release_by_title(self, title: str, artist: int) -> int | None:
        """The release of this primary title that is linked to the artist in any way."""
        return self._release_of_title.get((title, artist))

    def add_release(
        self,
        title: str,
        artists: Sequence[int],
        mbid: str | None,
        *,
        various_artists: bool = False,
        image_source: str | None = None,
        aliases: Sequence[str] = (),
    ) -> int:
        """A new release of these artists, the first of whom is its primary one; no other has this MBID."""
        release = -len(self._new_releases) - 1
        self._new_releases.append((various_artists, image_source))
        self._release_titles[release] = [title]
        self._release_places[release, title] = self._places
        self._places += 1
        self._release_mbids[release] = None
        if mbid is not None:
            self.fill_release_mbid(release, mbid)
        # Koito adds the title to extra aliases before it trims them, so that it may come back trimmed.
        extra = (*aliases, title) if aliases else ()
        _write_aliases(self.plan.release_aliases, release, title, extra, MUSICBRAINZ)
        self._link(release, artists[0], primary=True)
        self.link_release(release, artists[1:])
        return release

    def fill_release_mbid(self, release: int, mbid: str) -> None:
        """The release has this MBID, which no other has, unless it has one."""
        if self._release_mbids[release] is None:
            self._release_mbids[release] = mbid
            self._release_of_mbid[mbid] = release
            if release > 0:
                self.plan.release_mbids[release] = mbid

    def link_release(self, release: int, artists: Iterable[int]) -> None:
        """The artists are among those of the release."""
        linked = self._release_artists.setdefault(release, set())
        for artist in artists:
            if artist not in linked:
                self._link(release, artist, primary=False)

    def _link(self, release: int, artist: int, *, primary: bool) -> None:
        self.plan.release_links.append(ArtistLink(artist, release, primary))
        self._index_link(release, artist)

    def _index_link(self, release: int, artist: int) -> None:
        self._release_artists.setdefault(release, set()).add(artist)
        place = self._release_places
        for title in self._release_titles.get(release, ()):
            first = self._release_of_title.setdefault((title, artist), release)
            if place[release, title] < place[first, title]:
                self._release_of_title[title, artist] = release

    def track_by_mbid(self, mbid: str) -> int | None:
        return self._track_of_mbid.get(mbid)

    def track_by_info(self, title: str, release: int, artists: Sequence[int]) -> int | None:
        """The first track of this primary title on the release that has all of these artists, and maybe others."""
        for track in self._tracks_of_title.get((release, title), ()):
            if all(map(self._track_artists.get(track, {}).__contains__, artists)):
                return track
        return None

    def track_place(self, track: int) -> tuple[int, int, int] | None:
        """(first artist, release, track) of a track; None when the image does not have it."""
        release = self._releases.get(track)
        artist = next(iter(self._track_artists.get(track, ())), None)
        return None if release is None or artist is None else (artist, release, track)

    def track_facts(self, track: int) -> TrackFacts:
        """What the track is, which the image has or was added."""
        release = self._releases[track]
        titles = self._release_titles.get(release)
        artists = tuple(self._track_artists.get(track, ()))
        return TrackFacts(release, self._track_titles[track], min(titles) if titles else None, artists)

    def add_track(self, title: str, release: int, artists: Sequence[int], mbid: str | None, duration: int) -> int:
        """A new track of these artists, the first of whom is its primary one; all are linked to the release too."""
        track = -len(self._new_tracks) - 1
        self._new_tracks.append(release)
        self._releases[track] = release
        self._track_titles[track] = title
        self._durations[track] = duration
        self._track_mbids[track] = None
        if mbid is not None:
            self.fill_track_mbid(track, mbid)
        self._track_artists[track] = dict.fromkeys(artists)
        self._tracks_of_title.setdefault((release, title), []).append(track)
        self.plan.track_links += [ArtistLink(artist, track, artist == artists[0]) for artist in artists]
        self.plan.track_aliases.append(NewAlias(track, title, CANONICAL, True))
        self.link_release(release, artists)
        return track

    def add_track_aliases(self, track: int, title: str, aliases: Sequence[str]) -> None:
        """Extra aliases of a track that is new. Its title may come back trimmed, as in Koito."""
        self.plan.track_aliases += _extra_aliases(track, title, (*aliases, title), IMPORT)

    def fill_track_mbid(self, track: int, mbid: str) -> None:
        """The track has this MBID, which no other has, unless it has one."""
        if self._track_mbids[track] is None:
            self._track_mbids[track] = mbid
            self._track_of_mbid[mbid] = track
            if track > 0:
                self.plan.track_mbids[track] = mbid

    def fill_duration(self, track: int, duration: int) -> None:
        """The track lasts so many seconds, unless it is known how long it lasts."""
        if duration and not self._durations[track]:
            self._durations[track] = duration
            if track > 0:
                self.plan.track_durations[track] = duration

    def finish(self) -> ListenPlan:
        """The plan, with the new rows as they are now."""
        plan = self.plan
        plan.artists = [
            NewArtist(self._artist_mbids[-n], image) for n, image in enumerate(self._artist_images, start=1)
        ]
        plan.releases = [
            NewRelease(self._release_mbids[-n], various, image)
            for n, (various, image) in enumerate(self._new_releases, start=1)
        ]
        plan.tracks = [
            NewTrack(self._track_mbids[-n], release, self._durations[-n])
            for n, release in enumerate(self._new_tracks, start=1)
        ]
        return plan


def _write_aliases(rows: list[NewAlias], owner: int, name: str, aliases: Iterable[str], source: str) -> list[str]:
    """Add the rows of a new entity's name and other aliases; the aliases."""
    rows.append(NewAlias(owner, name, CANONICAL, True))
    extra = _extra_aliases(owner, name, aliases, source)
    rows += extra
    return [name, *(row.alias for row in extra)]


def _extra_aliases(owner: int, name: str, aliases: Iterable[str], source: str) -> list[NewAlias]:
    """The rows of what aliases there are beside the name: trimmed, not blank, each once."""
    distinct = dict.fromkeys(map(trim, aliases))
    return [NewAlias(owner, alias, source, False) for alias in distinct if alias and alias != name]
