"""The endpoints that make songs: what is accepted, and how what is not is refused.

Order of the real code: the file is attached (a bad signed id or missing bytes: 500), artist, album and genre are found
or made (an over-long name: 500), the fields and the file's type are validated (422), and only then the row is written,
where a missing title is a 500. A field of nothing but blanks is a missing one.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bookpipe.demo.music_archive.answers import error_page, failure, success
from bookpipe.demo.music_archive.auth import Auth, parameters
from bookpipe.demo.music_archive.catalogue import Blob
from bookpipe.demo.music_archive.faults import Action, is_struck_by
from bookpipe.demo.music_archive.incoming import Form, IncomingFile, MalformedBodyError, discarded, receive_form
from bookpipe.demo.music_archive.sniffing import ALLOWED_TYPES, SNIFFED_BYTES, file_format, sniff
from bookpipe.demo.music_archive.state import ArchiveState
from bookpipe.demo.music_archive.storage import Storage, keep_half

_BLOB_PURPOSE = "blob_id"
_LARGEST_INTEGER = 2**31 - 1
_LONGEST_NAMES = {"artist_name": ("Name", 200), "album_title": ("Title", 200), "genre_name": ("Name", 100)}
_BAD_SIGNATURE = "ActiveSupport::MessageVerifier::InvalidSignature"
_NO_BYTES = "ActiveStorage::FileNotFoundError"
_NO_TITLE = (
    'PG::NotNullViolation: ERROR:  null value in column "title" of relation "songs" violates not-null constraint'
)
_FULL = "No space left on device"
_TYPE_REFUSED = "Audio file must be an audio file (mp3, m4a, mp4, ogg, flac, wav, aac)"


class UploadFailedError(Exception):
    """What the real code meets as an exception, of whatever kind: a 500."""


@dataclass(frozen=True)
class _Attached:
    """The bytes of a song to be: a file that just arrived, or a blob that was there before."""

    content_type: str
    size: int
    file: IncomingFile | None = None
    blob: Blob | None = None


class Songs:
    """bulk_upload, and the two steps around a direct upload."""

    def __init__(self, state: ArchiveState, auth: Auth, storage: Storage) -> None:
        self._state, self._auth, self._storage = state, auth, storage

    async def bulk_upload(self, request: Request) -> Response:
        self._auth.uploader(request)
        content_type = request.headers.get("content-type", "")
        if not content_type.lower().startswith("multipart/"):
            return self._create(request, await parameters(request), Form())
        try:
            form = await receive_form(request.stream(), content_type, self._state.incoming)
        except MalformedBodyError:
            return error_page(request, 400)
        with discarded(form):
            self._state.counters.received("bulk_upload", sum(file.size for file in form.files.values()))
            return self._create(request, form.fields, form)

    async def direct_upload(self, request: Request) -> Response:
        """Reserve a place for bytes. Exists in the archive's routes only, unless switched on."""
        if not self._state.direct_upload:
            return error_page(request, 404)
        self._auth.uploader(request)
        return self.reserve(request, await parameters(request))

    async def create_from_blob(self, request: Request) -> Response:
        """Make a song of bytes that are there. Exists in the archive's routes only, unless switched on."""
        if not self._state.direct_upload:
            return error_page(request, 404)
        self._auth.uploader(request)
        values = await parameters(request)
        nested = values.get("metadata")
        flat = {**(nested if isinstance(nested, dict) else {}), **values}
        flat["audio_file"] = next((flat[name] for name in ("signed_id", "blob_signed_id") if flat.get(name)), None)
        return self._create(request, {**flat, "filename": flat.get("filename") or ""}, Form())

    async def rails_direct_upload(self, request: Request) -> Response:
        """Rails' own door: no login, only a session with its form token."""
        values = await parameters(request)
        if not self._auth.has_form_token(request):
            return error_page(request, 422)
        return self.reserve(request, values, own=False)

    async def blob(self, request: Request) -> Response:
        """Rails' own way from a signed id to an address of the bytes, for everybody, and before they are there."""
        state = self._state
        blob_id = state.signer.verify(_BLOB_PURPOSE, request.path_params["signed_id"], now=state.now())
        blob = None if blob_id is None else state.catalogue.blob(blob_id)
        if blob is None:
            return Response(status_code=404)
        return RedirectResponse(self._storage.download_url(request, blob), 302)

    def reserve(self, request: Request, values: Mapping[str, object], *, own: bool = True) -> Response:
        """A new blob and where its bytes go, as Active Storage writes it; `own`: refused in the archive's own words."""
        nested = values.get("blob")
        asked: Mapping[str, Any] = nested if isinstance(nested, dict) else values
        missing = [name for name in ("filename", "byte_size", "checksum") if asked.get(name) in (None, "")]
        if missing:
            errors = [f"{name.replace('_', ' ').capitalize()} can't be blank" for name in missing]
            return failure(422, "Failed to create direct upload", errors) if own else error_page(request, 422)
        state = self._state
        now = state.now()
        blob = state.catalogue.add_blob(
            str(asked["filename"]), asked.get("content_type"), int(asked["byte_size"]), str(asked["checksum"]), now
        )
        content = {
            "id": blob.id,
            "key": blob.key,
            "filename": blob.filename,
            "content_type": blob.content_type,
            "metadata": {},
            "byte_size": blob.byte_size,
            "checksum": blob.checksum,
            "service_name": "amazon" if state.storage_kind == "s3" else "local",
            "created_at": iso_time(now),
            "signed_id": self.signed_id(blob),
            "direct_upload": {
                "url": self._storage.upload_url(request, blob),
                "headers": dict(self._storage.upload_headers(blob)),
            },
        }
        return success(content)

    def signed_id(self, blob: Blob) -> str:
        """Good for ever, and for nothing else."""
        return self._state.signer.sign(_BLOB_PURPOSE, blob.id)

    def _create(self, request: Request, values: Mapping[str, object], form: Form) -> Response:
        source: object = form.files.get("audio_file") or values.get("audio_file")
        if not source:
            return failure(422, "No audio file provided")
        try:
            attached = self._attach(source, values)
            names = _names(values)
            errors = _errors(values) + ([] if attached.content_type in ALLOWED_TYPES else [_TYPE_REFUSED])
            if errors:
                return failure(422, "Failed to save song", errors)
            song_id = self._save(request, values, names, attached)
        except UploadFailedError as error:
            return failure(500, f"Upload failed: {error}")
        song = self._state.catalogue.song(song_id)
        assert song is not None
        shown = ("id", "title", "artist", "album", "genre", "processing_status", "created_at")
        content = song_json(song, shown, self._state)
        return success({"message": "Song uploaded successfully", "song": content}, 201)

    def _attach(self, source: object, values: Mapping[str, object]) -> _Attached:
        if isinstance(source, IncomingFile):
            return _Attached(sniff(source.head, source.filename, source.declared_type), source.size, file=source)
        blob_id = self._state.signer.verify(_BLOB_PURPOSE, str(source), now=self._state.now())
        blob = None if blob_id is None else self._state.catalogue.blob(blob_id)
        if blob is None:
            raise UploadFailedError(_BAD_SIGNATURE)
        content_type = blob.content_type or "" if blob.identified else self._identified_type(blob)
        if "filename" not in values:
            raise UploadFailedError("undefined method `original_filename' for an instance of String")
        return _Attached(content_type, blob.byte_size, blob=blob)

    def _identified_type(self, blob: Blob) -> str:
        head = b""
        if blob.byte_size > 0:
            try:
                with self._storage.path_of(blob.key).open("rb") as file:
                    head = file.read(SNIFFED_BYTES)
            except FileNotFoundError:
                raise UploadFailedError(_NO_BYTES) from None
        return sniff(head, blob.filename, blob.content_type)

    def _save(
        self, request: Request, values: Mapping[str, object], names: Mapping[str, str | None], attached: _Attached
    ) -> str:
        title = _present(values, "title")
        if title is None:
            raise UploadFailedError(_NO_TITLE)
        skipped = values.get("skip_post_processing") in (True, "true")
        complete = names["artist_name"] is not None
        failed = is_struck_by(request, Action.PROCESSING_FAILS) and not skipped
        original = values.get("filename") or (attached.file.filename if attached.file else "")
        row = {
            "title": title,
            "track_number": _integer(_present(values, "track_number")),
            "duration": _integer(_present(values, "duration")),
            "file_format": None if skipped else file_format(attached.content_type),
            "file_size": None if skipped or not attached.size else attached.size,
            "original_filename": original,
            "processing_status": "failed" if failed else "completed" if complete else "needs_review",
            "processing_error": "The file could not be read" if failed else None,
        }
        state = self._state
        blob = attached.blob or self._new_blob(attached)
        song_id = state.catalogue.add_song(
            blob,
            attached.content_type,
            row,
            artist=names["artist_name"],
            album=names["album_title"],
            genre=names["genre_name"],
            now=state.now(),
        )
        if attached.file is not None:
            # Active Storage writes the bytes when the rows are committed.
            path = self._storage.path_of(blob.key)
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_struck_by(request, Action.DISK_FULL):
                keep_half(attached.file, path)
                raise UploadFailedError(_FULL)
            os.replace(attached.file.path, path)
        elif is_struck_by(request, Action.DISK_FULL):
            raise UploadFailedError(_FULL)
        return song_id

    def _new_blob(self, attached: _Attached) -> Blob:
        file = attached.file
        assert file is not None
        now = self._state.now()
        return self._state.catalogue.add_blob(file.filename, attached.content_type, file.size, file.checksum, now)


def iso_time(seconds: float) -> str:
    """Epoch seconds as Rails writes times in JSON."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def song_json(song: Mapping[str, Any], names: tuple[str, ...], state: ArchiveState) -> dict[str, Any]:
    """The values of a song's row that an endpoint shows."""
    content = {name: song[name] for name in names if name in song}
    if "id" in content and state.song_ids == "integer":
        content["id"] = int(content["id"])
    if "created_at" in content:
        content["created_at"] = iso_time(content["created_at"])
    return content


def _names(values: Mapping[str, object]) -> dict[str, str | None]:
    names: dict[str, str | None] = {}
    for field, (label, longest) in _LONGEST_NAMES.items():
        name = _present(values, field)
        if name is not None and len(name) > longest:
            raise UploadFailedError(f"Validation failed: {label} is too long (maximum is {longest} characters)")
        names[field] = name
    return names


def _errors(values: Mapping[str, object]) -> list[str]:
    errors = []
    for field, label, longest in (("title", "Title", 200), ("filename", "Original filename", 255)):
        if len(_present(values, field) or "") > longest:
            errors.append(f"{label} is too long (maximum is {longest} characters)")
    for field, label in (("track_number", "Track number"), ("duration", "Duration")):
        text = (_present(values, field) or "").strip()
        if not text:
            continue
        if re.fullmatch(r"[+-]?\d+", text):
            if int(text) <= 0:
                errors.append(f"{label} must be greater than 0")
        elif re.fullmatch(r"[+-]?\d+\.\d+", text):
            errors.append(f"{label} must be an integer")
        else:
            errors.append(f"{label} is not a number")
    return errors


def _present(values: Mapping[str, object], field: str) -> str | None:
    text = "" if values.get(field) is None else str(values[field])
    return text if text.strip() else None


def _integer(text: str | None) -> int | None:
    if text is None:
        return None
    number = int(text)
    if number > _LARGEST_INTEGER:
        raise UploadFailedError(f"{number} is out of range for ActiveModel::Type::Integer with limit 4 bytes")
    return number
