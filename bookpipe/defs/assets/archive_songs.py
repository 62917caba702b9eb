"""archive/songs: the audio files of a folder in the music archive, one partition for each batch of files."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.ops.audio import CHECKS, check_songs, hash_songs, upload_songs
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
    check_specs=[
        dg.AssetCheckSpec("counts_add_up", asset=KEY, description="Read = inserted + existing + rejected."),
        dg.AssetCheckSpec(
            "songs_are_whole", asset=KEY, description="The archive has every song with our checksum and size."
        ),
        dg.AssetCheckSpec(
            "songs_are_processed",
            asset=KEY,
            description="The archive could process every song.",
        ),
    ],
)
def archive_songs() -> dict[str, pa.Table]:
    hashed = hash_songs()
    loaded = upload_songs(hashed)
    checks = check_songs(loaded)
    # Dagster finds a check's output by this name.
    return {"result": loaded, **{f"{KEY.to_python_identifier()}_{name}": getattr(checks, name) for name in CHECKS}}
