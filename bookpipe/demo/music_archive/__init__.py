"""A music archive for tests and demos: the real application's endpoints and answers, and faults on demand."""

from bookpipe.demo.music_archive.app import MusicArchive
from bookpipe.demo.music_archive.auth import ADMIN, LISTENER, MODERATOR, PASSWORD, User
from bookpipe.demo.music_archive.faults import Action, Fault
from bookpipe.demo.music_archive.serving import ArchiveProcess, archive_process, serve, start_process

__all__ = [
    "ADMIN",
    "LISTENER",
    "MODERATOR",
    "PASSWORD",
    "Action",
    "ArchiveProcess",
    "Fault",
    "MusicArchive",
    "User",
    "archive_process",
    "serve",
    "start_process",
]
