"""A music archive to try things on: python -m bookpipe.demo.music_archive --directory D."""

import argparse
from pathlib import Path

from bookpipe.demo.music_archive.app import MusicArchive
from bookpipe.demo.music_archive.serving import bound_socket, make_server


def main() -> None:
    """Serve until SIGTERM or SIGINT; the first line says the URL."""
    parser = argparse.ArgumentParser(prog="python -m bookpipe.demo.music_archive", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="where songs and files are kept")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--direct-upload", action="store_true", help="with the actions that the real code lacks")
    parser.add_argument("--storage", choices=("disk", "s3"), default="disk", help="where the upload urls lead")
    parser.add_argument("--song-ids", choices=("uuid", "integer"), default="uuid")
    options = parser.parse_args()
    archive = MusicArchive(
        options.directory,
        direct_upload=options.direct_upload,
        storage=options.storage,
        song_ids=options.song_ids,
    )
    with bound_socket(options.port) as listener:
        server, url = make_server(archive, listener)
        listener.listen(128)
        print(url, flush=True)
        server.run([listener])
    archive.close()


if __name__ == "__main__":
    main()
