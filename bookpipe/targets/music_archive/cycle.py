"""One content on its way into an archive: what the ledger says, what to do next, and what an answer means.

A run of the cycle ends with the content's fate, or with a wish to come again later; it never waits. Rules:
- An address gets one PUT in its life. Bad bytes put over good ones would delete them, so every further attempt reserves
  a place of its own.
- A PUT that was sent in full and got no answer is not repeated: the archive is asked whether the bytes are there.
- A request that makes the song is repeated only when it surely made none: it was not sent in full, it was refused, or
  the archive, asked for the song, has not got it, and has had the time to finish what it may still be doing.
- What the archive refuses for good (422) is not sent again, in this run or in others.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock

from bookpipe.model.errors import BookpipeError, TerminalError, UnreachableError
from bookpipe.model.rejections import Reason
from bookpipe.runtime.files import Refused
from bookpipe.runtime.upload_ledger import Content, Upload, Uploader, UploadState
from bookpipe.targets.music_archive import lookup, strategies
from bookpipe.targets.music_archive.answers import Answer, TroubleError, UnansweredError
from bookpipe.targets.music_archive.client import ArchiveClient, check_answer, check_trouble
from bookpipe.targets.music_archive.files import AudioFile, is_still, opened
from bookpipe.targets.music_archive.strategies import Song, Strategy
from bookpipe.targets.music_archive.transport import ChangedError, UnreadableError

BUSY_S = 1.0  # until a content that another process uploads is looked at again
CLOCK_SLACK = timedelta(days=1)  # between what a song's time says and when it was made


@dataclass(frozen=True, slots=True)
class Ended:
    """A content's fate: inserted, existing, or rejected with a reason."""

    outcome: str
    reason: Reason | None = None
    detail: str = ""
    song_id: str | None = None
    processing_error: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """Come again `after` seconds at the earliest. `why` is None when nothing went wrong.

    `outage`: the trouble is not of this content alone, and nobody should ask for a while.
    """

    after: float = 0.0
    why: str | None = None
    outage: bool = False


@dataclass
class Job:
    """A content to be uploaded, and what happened to it in this run."""

    file: AudioFile
    song: Song
    attempts: int = 0  # that went wrong
    sent: int = 0  # bytes of complete requests
    begun: bool = False  # this run asked for the song
    ask_until: float | None = None  # by the monotonic clock: when it surely has finished
    asks: int = 0

    @property
    def content(self) -> Content:
        return self.file.content


@dataclass
class Cycle:
    """The same for all contents of a batch; safe to run in several threads, for different contents."""

    client: ArchiveClient
    uploader: Uploader
    strategy: Strategy
    inside: bytes  # the real path of the music folder
    look_up_remote: bool = False
    seconds: dict[str, float] = field(default_factory=dict)  # by phase, of all threads together
    _lock: Lock = field(default_factory=Lock, repr=False)

    def run(self, job: Job) -> Ended | Again:
        """The next steps of one content, until it has ended or has to wait.

        Raises ConfigError and TerminalError for what is wrong with all contents, TransientError for trouble of this
        machine (its disk, its ledger).
        """
        try:
            upload = self.uploader.claim(job.content)
            if upload is None:
                return Again(BUSY_S)
            step = self._step(job, upload)
        except TroubleError as error:
            # Whatever this content was doing is in the ledger.
            return Again(error.retry_after or 0.0, str(error), error.outage)
        except UnreachableError as error:
            return Again(0.0, str(error), outage=True)
        if isinstance(step, Ended):
            self.uploader.release(job.content)
        return step

    def _step(self, job: Job, upload: Upload) -> Ended | Again:
        if upload.state is UploadState.CREATED:
            return Ended("existing", song_id=upload.song_id, processing_error=upload.processing_error)
        if upload.state is UploadState.REFUSED:
            return Ended("rejected", Reason.REFUSED, upload.last_error)
        if upload.state in (UploadState.UNSURE, UploadState.SENDING):
            return self._settle(job, upload)
        if upload.state is UploadState.RESERVED and upload.signed_id is not None:
            return self._find_bytes(job, upload.signed_id)
        if upload.state is UploadState.STORED and upload.signed_id is not None:
            return self._commit(job, upload.signed_id)
        if self.look_up_remote and not job.begun:
            with self._timed("settle"):
                found = lookup.find_song(self.client, job.song.title, job.content)
            if found is not None:
                return self._has_song(job, "existing", found.song_id, found.failed)
        return self._send(job)

    # -- sending ----------------------------------------------------------------------------------------------------

    def _send(self, job: Job) -> Ended | Again:
        with opened(job.file, self.inside) as fd:
            if isinstance(fd, Refused):
                return Ended("rejected", fd.reason, fd.detail)
            try:
                return self._send_form(job, fd) if self.strategy == "multipart" else self._reserve_and_put(job, fd)
            except ChangedError:
                self.uploader.again(job.content, "the file changed while it was sent")
                return Ended("rejected", Reason.CHANGED_WHILE_READING, "it changed while it was sent")
            except UnreadableError as error:
                self.uploader.again(job.content, "the file could not be read to its end")
                return Ended("rejected", Reason.UNREADABLE_FILE, error.args[0].strerror or "")

    def _reserve_and_put(self, job: Job, fd: int) -> Ended | Again:
        with self._timed("reserve"):
            place = strategies.reserve(self.client, job.song)
        if isinstance(place, Answer):
            check_trouble(place, "a reservation")
            if place.status == 422:
                return self._refuse(job, place.describe())
            raise TerminalError(f"The music archive answers a reservation with {place.describe()}.")
        self.uploader.reserved(job.content, place.signed_id)
        try:
            with self._timed("put"):
                answer = strategies.put(self.client, place, fd, job.content)
        except UnansweredError as error:
            if not error.delivered:
                self.uploader.again(job.content, str(error))
            raise
        except UnreachableError:
            self.uploader.again(job.content, "the storage cannot be reached")
            raise
        job.sent += job.content.size
        if answer.ok:
            self.uploader.stored(job.content)
            return self._commit(job, place.signed_id)
        return self._put_failed(job, fd, answer)

    def _put_failed(self, job: Job, fd: int, answer: Answer) -> Ended | Again:
        why = f"the storage answered {answer.describe()}"
        if 300 <= answer.status < 400:
            check_answer(answer, "a PUT to its storage", self.client.server)
        if answer.status in (400, 409, 422) and is_still(fd, job.content):
            # The bytes are what was announced; another attempt would end alike.
            return self._refuse(job, why)
        self.uploader.again(job.content, why)
        if answer.status in (400, 409, 422):
            return Ended("rejected", Reason.CHANGED_WHILE_READING, "it changed while it was sent")
        if answer.status == 413:
            return Ended("rejected", Reason.UPLOAD_FAILED, f"{why}: too large for the server's settings")
        if answer.status in (403, 404):
            why += "; the address was good for a few minutes and has probably expired during a slow PUT"
        return Again(answer.retry_after or 0.0, why, answer.is_outage)

    def _send_form(self, job: Job, fd: int) -> Ended | Again:
        self._begin(job)
        try:
            with self._timed("put"):
                answer = strategies.send_form(self.client, job.song, fd)
        except UnansweredError as error:
            if error.delivered:
                job.sent += job.content.size
                self._lost(job, str(error))
            else:
                self.uploader.again(job.content, str(error))
            raise
        except BookpipeError as error:  # refused, or not sent at all
            self.uploader.again(job.content, str(error))
            raise
        job.sent += job.content.size
        return self._answered(job, answer, signed_id=None)

    # -- making the song --------------------------------------------------------------------------------------------

    def _commit(self, job: Job, signed_id: str) -> Ended | Again:
        self._begin(job)
        try:
            with self._timed("commit"):
                answer = strategies.commit(self.client, signed_id, job.song)
        except UnansweredError as error:
            if error.delivered:
                self._lost(job, str(error))
            else:
                self.uploader.again(job.content, str(error), stored=True)
            raise
        except BookpipeError as error:
            self.uploader.again(job.content, str(error), stored=True)
            raise
        return self._answered(job, answer, signed_id)

    def _begin(self, job: Job) -> None:
        self.uploader.sending(job.content)
        job.begun = True

    def _lost(self, job: Job, why: str) -> None:
        self.uploader.unsure(job.content, why)
        job.ask_until = time.monotonic() + self.client.server.settle
        job.asks = 0

    def _answered(self, job: Job, answer: Answer, signed_id: str | None) -> Ended | Again:
        if answer.ok:
            return self._created(job, answer)
        why = answer.describe()
        if answer.status == 422:
            return self._refuse(job, why)
        if signed_id is not None and strategies.says_no_bytes(answer):
            self.uploader.again(job.content, why)
            return Again(why=f"the archive has lost the bytes: {why}")
        if answer.status == 413:
            self.uploader.again(job.content, why)
            return Ended("rejected", Reason.UPLOAD_FAILED, f"{why}: too large for the server's settings")
        if answer.status == 429 or answer.status < 500:
            self.uploader.again(job.content, why, stored=signed_id is not None)
            return Again(answer.retry_after or 0.0, f"the archive answered {why}", answer.is_outage)
        # The archive itself is done when it answers. What stands in front of it may have lost patience only.
        self._lost(job, f"the archive answered {why}")
        if answer.is_applications or not answer.is_outage:
            job.ask_until = time.monotonic()
        return Again(answer.retry_after or 0.0, f"the archive answered {why}", answer.is_outage)

    def _created(self, job: Job, answer: Answer) -> Ended:
        song = answer.data.get("song")
        if not isinstance(song, dict) or song.get("id") is None:
            self._lost(job, "the archive made a song and did not say which")
            raise TroubleError("The music archive answers 201 without a song.")
        return self._has_song(job, "inserted", str(song["id"]), song.get("processing_status") == "failed")

    def _has_song(self, job: Job, outcome: str, song_id: str, failed: bool) -> Ended:
        error = lookup.get_processing_error(self.client, song_id) if failed else ""
        self.uploader.created(job.content, song_id, error)
        return Ended(outcome, song_id=song_id, processing_error=error)

    def _refuse(self, job: Job, why: str) -> Ended:
        self.uploader.refused(job.content, why)
        return Ended("rejected", Reason.REFUSED, why)

    # -- asking -----------------------------------------------------------------------------------------------------

    def _settle(self, job: Job, upload: Upload) -> Ended | Again:
        """Nobody knows whether the song was made: ask, until there is it or the archive must have finished."""
        if job.ask_until is None:  # an earlier run was ended in the middle of its request
            since = min(max(time.time() - upload.updated_at, 0.0), self.client.server.settle)
            job.ask_until = time.monotonic() + self.client.server.settle - since
        over = time.monotonic() >= job.ask_until  # before asking: what is made until then must be found
        since_then = timedelta(seconds=time.time() - upload.updated_at) + CLOCK_SLACK
        with self._timed("settle"):
            found = lookup.find_song(self.client, job.song.title, job.content, since=self.client.now() - since_then)
            whole = found is None or lookup.has_whole_file(self.client, found.file, job.content.size) is not False
        if found is not None and not whole:
            return Ended(
                "rejected", Reason.UPLOAD_FAILED,
                f"the archive made song {found.song_id} but has not all of its bytes ({upload.last_error}): delete the "
                "song there, then run again",
            )  # fmt: skip
        if found is not None:
            return self._has_song(job, "inserted" if job.begun else "existing", found.song_id, found.failed)
        if not over:
            job.asks += 1
            left = job.ask_until - time.monotonic()
            return Again(max(0.0, min(left, self.client.server.backoff * 2 ** min(job.asks, 5))))
        job.ask_until = None
        self.uploader.again(job.content, upload.last_error, stored=upload.signed_id is not None)
        return Again()

    def _find_bytes(self, job: Job, signed_id: str) -> Ended | Again:
        """A PUT was begun, perhaps, and nobody knows how it ended: ask for the last byte."""
        with self._timed("settle"):
            there = lookup.has_whole_blob(self.client, signed_id, job.song.filename, job.content.size)
        if there is False:
            self.uploader.again(job.content, "the bytes did not arrive")
            return self._send(job)
        self.uploader.stored(job.content)
        return self._commit(job, signed_id)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - began
