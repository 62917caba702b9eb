"""Whether the archive really has what was uploaded: checksum and size of each song, read back."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import stamina

from bookpipe.model.errors import TransientError
from bookpipe.runtime.upload_ledger import Content
from bookpipe.targets.music_archive import lookup
from bookpipe.targets.music_archive.client import ArchiveClient
from bookpipe.targets.music_archive.server import MusicArchive

READERS = 4
ATTEMPTS = 5


@dataclass
class Findings:
    """What is wrong with some songs. Nothing but numbers when all is well."""

    checked: int = 0
    gone: list[str] = field(default_factory=list)  # ids of songs that the archive has not got any more
    different: list[str] = field(default_factory=list)  # "id: what is there instead", for songs with another file

    @property
    def ok(self) -> bool:
        return not (self.gone or self.different)

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            self.checked + other.checked,
            self.gone + other.gone,
            self.different + other.different,
        )


def audit_songs(server: MusicArchive, songs: Iterable[tuple[str, Content]]) -> Findings:
    """Compare songs of the archive (id, what was uploaded) with what the archive says of their files.

    Its checksum and size are what was announced before the bytes came, and were tested then. Raises TransientError when
    the archive stays away, ConfigError as an upload does.
    """
    with ArchiveClient(server) as client, ThreadPoolExecutor(READERS, "audit_songs") as pool:

        @stamina.retry(on=TransientError, attempts=ATTEMPTS, wait_initial=server.backoff, timeout=server.outage)
        def look(song: tuple[str, Content]) -> Findings:
            return _look(client, *song)

        found = Findings()
        for one in pool.map(look, list(songs)):
            found += one
        return found


def _look(client: ArchiveClient, song_id: str, content: Content) -> Findings:
    file = lookup.get_audio_file(client, song_id)
    if file is None:
        return Findings(1, gone=[song_id])
    if not file.is_(content):
        there = f"{song_id}: {file.size} bytes, checksum {file.checksum}; it should be {content.size} bytes, "
        return Findings(1, different=[there + f"checksum {lookup.checksum(content)}"])
    return Findings(1)
