"""Sources and targets as the settings name them."""

from bookpipe.model.errors import ConfigError
from bookpipe.resolve.books import BookOptions
from bookpipe.resolve.listens import ListenOptions
from bookpipe.settings import Settings, help_of, require
from bookpipe.sources.calibre import CalibreLibrary
from bookpipe.sources.tar_shards import Settled, Shard, find_shards
from bookpipe.targets.koito.server import Koito, open_koito
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.mybookshelf2.server import MyBookshelf2


def calibre_library(settings: Settings) -> CalibreLibrary:
    """The configured library; ConfigError naming the setting when there is none."""
    return CalibreLibrary(require(settings, "calibre_library"))


def tar_shards(settings: Settings) -> dict[str, Shard]:
    """The shards of the configured folder that are completely written, by key."""
    return {shard.key: shard for shard in find_shards(require(settings, "tar_dir"), settled=Settled())}


def mybookshelf2(settings: Settings) -> MyBookshelf2:
    """The configured MyBookshelf2; ConfigError naming the setting when there is none."""
    return MyBookshelf2(
        url=require(settings, "mybookshelf2_url"),
        data_dir=require(settings, "mybookshelf2_data_dir"),
        user=settings.mybookshelf2_user,
        file_mode=settings.file_mode,
        link_prefix=settings.link_prefix,
        create_indexes=settings.create_indexes,
    )


def book_options(settings: Settings) -> BookOptions:
    """What a load may create."""
    return BookOptions(
        create_languages=settings.create_languages,
        create_formats=settings.create_formats,
        create_genres=settings.create_genres,
        default_language=settings.default_language,
    )


def koito(settings: Settings) -> Koito:
    """The configured Koito; ConfigError naming the setting when there is none."""
    return open_koito(
        require(settings, "koito_url"), user_id=settings.koito_user_id, lookup_cache=settings.koito_lookup_cache
    )


def listen_options(settings: Settings) -> ListenOptions:
    """How listens are resolved."""
    return ListenOptions(settings.koito_artist_separators, settings.koito_lookup_cache)


def music_archive(settings: Settings) -> MusicArchive:
    """The configured music archive; ConfigError naming the setting when there is none."""
    if not settings.archive_email:
        raise ConfigError("BOOKPIPE_ARCHIVE_EMAIL is not set: " + help_of("BOOKPIPE_ARCHIVE_EMAIL"))
    return MusicArchive(
        url=require(settings, "archive_url"),
        email=settings.archive_email,
        password=require(settings, "archive_password"),
        strategy=settings.archive_strategy,
    )
