"""A storage that behaves as S3 does towards presigned PUT urls (AWS Signature Version 4 in the query).

Rules, from AWS' documentation of presigned urls and error codes: signed are content-length, content-md5, content-type
and host; a changed or missing signed header is 403 SignatureDoesNotMatch, bytes of another MD5 are 400 BadDigest, an
old url 403 AccessDenied, no length 411, a second way to authenticate 400. All but the bytes is tested before the body
is read, nothing is stored before it is complete, and a second PUT replaces the first.
"""

import base64
import binascii
import hashlib
import hmac
import os
from calendar import timegm
from collections.abc import Mapping
from pathlib import Path
from time import gmtime, strftime, strptime
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from bookpipe.demo.music_archive.answers import base_url
from bookpipe.demo.music_archive.catalogue import Blob
from bookpipe.demo.music_archive.faults import Action, is_struck_by
from bookpipe.demo.music_archive.incoming import receive_file
from bookpipe.demo.music_archive.state import ArchiveState

BUCKET = "music"
_ALGORITHM = "AWS4-HMAC-SHA256"
_REGION = "eu-central-1"
_ACCESS_KEY, _SECRET_KEY = "AKIDEXAMPLE", "a secret of the demo"
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_PARAMETERS = {f"X-Amz-{name}" for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")}


def presign(
    method: str,
    path: str,
    headers: Mapping[str, str],
    *,
    access_key: str,
    secret_key: str,
    region: str,
    now: float,
    seconds: int,
) -> str:
    """The signed query of a url with the quoted `path`; all `headers` (lower-case names) are signed."""
    date = strftime(_TIME_FORMAT, gmtime(now))
    query = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{access_key}/{date[:8]}/{region}/s3/aws4_request",
        "X-Amz-Date": date,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": ";".join(sorted(headers)),
    }
    signature = _signature(method, path, query, headers, secret_key)
    return f"{_canonical_query(query)}&X-Amz-Signature={signature}"


def _signature(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], secret_key: str) -> str:
    names = sorted(headers)
    canonical = "\n".join(
        (
            *(method, path, _canonical_query(query)),
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            *("", ";".join(names), "UNSIGNED-PAYLOAD"),
        )
    )
    _, date, region, service, end = query["X-Amz-Credential"].rsplit("/", 4)
    scope = "/".join((date, region, service, end))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join((_ALGORITHM, query["X-Amz-Date"], scope, digest))
    key = b"AWS4" + secret_key.encode()
    for part in (date, region, service, end):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _canonical_query(query: Mapping[str, str]) -> str:
    return "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query.items()))


class S3Storage:
    """Objects of one bucket, in files below the archive's folder; the urls lead to the archive's own address."""

    def __init__(self, state: ArchiveState) -> None:
        self._state = state
        self._folder = state.directory / "s3" / BUCKET

    def path_of(self, key: str) -> Path:
        return self._folder / key

    def upload_url(self, request: Request, blob: Blob) -> str:
        headers = {
            "content-length": str(blob.byte_size),
            "content-md5": blob.checksum,
            "content-type": blob.content_type or "",
        }
        return self._url(request, "PUT", blob, headers)

    def download_url(self, request: Request, blob: Blob) -> str:
        return self._url(request, "GET", blob, {})

    def _url(self, request: Request, method: str, blob: Blob, headers: Mapping[str, str]) -> str:
        path = f"/s3/{BUCKET}/{quote(blob.key, safe='-_.~')}"
        base = base_url(request)
        query = presign(
            *(method, path, {**headers, "host": base.partition("://")[2]}),
            access_key=_ACCESS_KEY,
            secret_key=_SECRET_KEY,
            region=_REGION,
            now=self._state.now(),
            seconds=int(self._state.url_seconds),
        )
        return f"{base}{path}?{query}"

    def upload_headers(self, blob: Blob) -> Mapping[str, str | None]:
        disposition = f"inline; filename=\"{_ascii(blob.filename)}\"; filename*=UTF-8''{quote(blob.filename, safe='')}"
        return {
            "Content-Type": blob.content_type,
            "Content-MD5": blob.checksum,
            "Content-Disposition": disposition,  # not signed
        }

    async def put(self, request: Request) -> Response:
        with self._state.counters.put(request.url.path):
            return self._refusal(request) or self._body_refusal(request) or await self._store(request)

    async def get(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        path = self.path_of(request.path_params["key"])
        if not path.exists():
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        return FileResponse(path, media_type="application/octet-stream")

    def _refusal(self, request: Request) -> Response | None:
        """What is tested of every request."""
        query = dict(parse_qsl(request.url.query, keep_blank_values=True))
        if "authorization" in request.headers:
            return _error(400, "InvalidArgument", "Only one auth mechanism allowed")
        if request.method == "PUT" and "content-length" not in request.headers:
            return _error(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        if not query.keys() & _PARAMETERS:
            return _error(403, "AccessDenied", "Access Denied")
        if not query.keys() >= _PARAMETERS or query["X-Amz-Algorithm"] != _ALGORITHM:
            return _error(400, "AuthorizationQueryParametersError", "Query-string authentication version 4 needs more")
        given = query.pop("X-Amz-Signature")
        try:
            end = timegm(strptime(query["X-Amz-Date"], _TIME_FORMAT)) + int(query["X-Amz-Expires"])
        except ValueError:
            return _error(400, "AuthorizationQueryParametersError", "X-Amz-Date or X-Amz-Expires cannot be read")
        if self._state.now() > end:
            return _error(403, "AccessDenied", "Request has expired")
        names = query["X-Amz-SignedHeaders"].split(";")
        headers = {name: request.headers.get(name, "") for name in names}
        wanted = _signature(request.method, request.scope["raw_path"].decode(), query, headers, _SECRET_KEY)
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            return _error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match")
        return None

    def _body_refusal(self, request: Request) -> Response | None:
        """What is tested of the announced body."""
        try:
            digest = base64.b64decode(request.headers["content-md5"], validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != 16:  # an MD5
            return _error(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        return None

    async def _store(self, request: Request) -> Response:
        incoming = await receive_file(request.stream(), self._state.incoming)
        self._state.counters.received("put", incoming.size)
        try:
            if is_struck_by(request, Action.DISK_FULL):
                return _error(500, "InternalError", "We encountered an internal error. Please try again.")
            if incoming.checksum != request.headers["content-md5"]:
                return _error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
            path = self.path_of(request.path_params["key"])
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(incoming.path, path)
        finally:
            incoming.discard()
        return Response(status_code=200, headers={"ETag": f'"{incoming.md5.hex()}"'})


def _ascii(filename: str) -> str:
    return filename.encode("ascii", "replace").decode().replace('"', "%22")


def _error(status: int, code: str, message: str) -> Response:
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{error}', status, media_type="application/xml")
