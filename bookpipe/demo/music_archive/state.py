"""What the parts of one archive share: its folder, tables, keys, switches and clock."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bookpipe.demo.music_archive.catalogue import Catalogue, SongIds
from bookpipe.demo.music_archive.connections import Connections
from bookpipe.demo.music_archive.counters import Counters
from bookpipe.demo.music_archive.faults import Faults
from bookpipe.demo.music_archive.signing import Signer

StorageKind = Literal["disk", "s3"]


@dataclass
class ArchiveState:
    """One archive. `direct_upload`: whether the two actions that the real code lacks are there. `url_seconds`: life of
    an upload url. `clock_offset`: how far, in seconds, the server's clock is ahead of ours."""

    directory: Path
    direct_upload: bool = False
    storage_kind: StorageKind = "disk"
    song_ids: SongIds = "uuid"
    url_seconds: float = 300.0
    clock_offset: float = 0.0
    tokens_valid_from: float = 0.0  # tokens issued before are refused
    counters: Counters = field(default_factory=Counters)
    connections: Connections = field(default_factory=Connections)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.incoming.mkdir(exist_ok=True)
        for left_over in self.incoming.iterdir():  # of a killed server
            left_over.unlink()
        self.signer = Signer(self.directory / "secret_key")
        self.catalogue = Catalogue(self.directory / "archive.sqlite3", self.song_ids)
        self.faults = Faults(self.connections)

    @property
    def incoming(self) -> Path:
        """Where bodies are written while they arrive."""
        return self.directory / "incoming"

    def now(self) -> float:
        """Epoch seconds by the server's clock."""
        return time.time() + self.clock_offset
