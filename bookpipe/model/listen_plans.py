"""What a Koito database has that a chunk of listens can touch (KoitoImage), and what it makes of it (ListenPlan).

References to rows that do not exist yet are negative: -1 is the first new artist (release, track) of the plan, -2 the
second. The target turns them into ids when it has its write lock, in the order of the plan, so that an empty database
ends with the ids that Koito itself would have given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

# One row for each new listen of a chunk, in the order in which they were resolved.
NEW_LISTENS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # index into the chunk
        pa.field("track", pa.int64(), nullable=False),  # id, or reference to a new track
        pa.field("listened_at", pa.int64(), nullable=False),  # seconds since 1970, UTC
        pa.field("listened_us", pa.int32(), nullable=False),  # the rest in microseconds; SQLite drops it
        pa.field("client", pa.string(), nullable=False),  # "" = unknown
    ]
)


class ListenKey(NamedTuple):
    """A listen for the lookup cache."""

    row: int  # index into the chunk
    digest: bytes  # of what decides its resolution
    seconds: int  # since 1970
    microseconds: int  # the rest
    duration: int  # seconds, that its track gets unless it has one


@dataclass(frozen=True)
class Wanted:
    """Every text by which the rules could look anything up for a chunk. Exact, case-sensitive, distinct."""

    artist_names: frozenset[str] = frozenset()
    artist_mbids: frozenset[str] = frozenset()
    release_titles: frozenset[str] = frozenset()
    release_mbids: frozenset[str] = frozenset()
    track_titles: frozenset[str] = frozenset()
    recording_mbids: frozenset[str] = frozenset()
    keys: tuple[ListenKey, ...] = ()  # of each listen; empty when the lookup cache is off


class KnownRelease(NamedTuple):
    """A release. `title` is its primary alias; None when it has none (Koito then does not see it). One with several,
    which Koito does not make, is there once for each."""

    id: int
    title: str | None
    mbid: str | None


class KnownTrack(NamedTuple):
    """A track; like a release, once for each of its primary aliases that is looked for, in their order."""

    id: int
    title: str | None  # primary alias
    release: int
    mbid: str | None
    duration: int  # seconds, 0 = unknown


@dataclass
class KoitoImage:
    """The part of a Koito database that the listens of a Wanted can touch.

    Lists are in the order in which Koito's own look-ups meet the rows, so that where several match the first one
    wins: on SQLite that of the alias rows (rowid), on PostgreSQL that of the ids.
    """

    artists: dict[int, str | None] = field(default_factory=dict)  # id -> MBID
    artist_aliases: list[tuple[int, str]] = field(default_factory=list)  # all aliases of these artists
    releases: list[KnownRelease] = field(default_factory=list)
    release_artists: list[tuple[int, int]] = field(default_factory=list)  # (release, artist), all of these releases
    tracks: list[KnownTrack] = field(default_factory=list)
    track_artists: list[tuple[int, int]] = field(default_factory=list)  # (track, artist), all of these tracks
    # Koito's SQLite flavour reads an artist's aliases joined by this, so an alias that holds it counts as its parts.
    alias_joint: str | None = None
    # From the lookup cache: rows of the chunk whose listen was loaded before and is still there, and tracks to
    # follow, by digest, because the user has merged or renamed what the digest stood for.
    loaded: frozenset[int] = frozenset()
    followed: Mapping[bytes, int] = field(default_factory=dict)

    @property
    def whole_seconds(self) -> bool:
        """Whether a listen's time is kept in whole seconds, so that two of a track within one are the same."""
        return self.alias_joint is not None


class NewAlias(NamedTuple):
    """An alias of the entity `owner` (reference or id). `source` is Koito's word: Canonical, MusicBrainz, Import."""

    owner: int
    alias: str
    source: str
    primary: bool


class NewArtist(NamedTuple):
    mbid: str | None
    image_source: str | None = None  # stored as given; an http(s) one gets a random image id as well


class NewRelease(NamedTuple):
    mbid: str | None
    various_artists: bool = False
    image_source: str | None = None


class NewTrack(NamedTuple):
    mbid: str | None
    release: int
    duration: int


class ArtistLink(NamedTuple):
    """A row of artist_releases or artist_tracks."""

    artist: int
    owner: int
    primary: bool


class Resolution(NamedTuple):
    """What a digest was resolved to, for the lookup cache. `seconds`: up to three of its listens, since 1970."""

    digest: bytes
    artist: int  # the first one
    release: int
    track: int
    seconds: Sequence[int]


class TrackFacts(NamedTuple):
    """What only the user changes about a track. The titles are the primary aliases."""

    release: int
    title: str | None
    release_title: str | None
    artists: Sequence[int]


@dataclass
class ListenPlan:
    """Everything a chunk adds to a Koito database, and how each of its rows ends.

    Entities, aliases and links are in the order in which Koito would have written them.
    """

    artists: list[NewArtist] = field(default_factory=list)
    artist_aliases: list[NewAlias] = field(default_factory=list)
    releases: list[NewRelease] = field(default_factory=list)
    release_aliases: list[NewAlias] = field(default_factory=list)
    release_links: list[ArtistLink] = field(default_factory=list)
    tracks: list[NewTrack] = field(default_factory=list)
    track_aliases: list[NewAlias] = field(default_factory=list)
    track_links: list[ArtistLink] = field(default_factory=list)
    # Updates of rows that were there before; those of new rows are already in them. An artist's MBID may replace
    # another one, which may be the MBID of another artist by now, old or new: as MBIDs are unique, those of the artists
    # named here have to be cleared before anything else of the plan is written.
    artist_mbids: dict[int, str] = field(default_factory=dict)
    release_mbids: dict[int, str] = field(default_factory=dict)
    track_mbids: dict[int, str] = field(default_factory=dict)
    track_durations: dict[int, int] = field(default_factory=dict)
    listens: pa.Table = field(default_factory=NEW_LISTENS.empty_table)  # at most one of a track and time
    resolutions: list[Resolution] = field(default_factory=list)
    resolved_tracks: dict[int, TrackFacts] = field(default_factory=dict)  # those of the resolutions
    # One entry for each row of the chunk. "inserted" may still turn out as "existing" when it is written.
    outcomes: list[str] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    details: list[str | None] = field(default_factory=list)
