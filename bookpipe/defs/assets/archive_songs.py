"""archive/songs: the audio files of a folder in the music archive, one partition for each batch of files."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.checks import SONG_CHECKS, check_specs, loaded_and_checked
from bookpipe.defs.ops.audio import check_songs, hash_songs, upload_songs
from bookpipe.defs.partitions import audio_batches

KEY = dg.AssetKey(["archive", "songs"])


@dg.graph_asset(
    key=KEY,
    partitions_def=audio_batches,
    group_name="music",
    description=(
        "Songs in a music archive (Rails, Active Storage), each content once. Set BOOKPIPE_MUSIC_DIR, "
        "BOOKPIPE_ARCHIVE_URL, BOOKPIPE_ARCHIVE_EMAIL and BOOKPIPE_ARCHIVE_PASSWORD; `bookpipe doctor` checks them."
    ),
    check_specs=check_specs(KEY, SONG_CHECKS),
)
def archive_songs() -> dict[str, pa.Table]:
    hashed = hash_songs()
    loaded = upload_songs(hashed)
    return loaded_and_checked(KEY, SONG_CHECKS, loaded, check_songs(loaded))
