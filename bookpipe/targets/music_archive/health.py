"""Whether a music archive can be uploaded to, and what to do where it cannot. Nothing is made there.

Its own health page is not asked: it always says that it is ill.
"""

from collections.abc import Callable

from bookpipe.model.errors import BookpipeError
from bookpipe.model.findings import Finding, failure, skipped
from bookpipe.targets.music_archive.client import ArchiveClient
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.music_archive.strategies import choose_strategy, may_upload


def examine(server: MusicArchive) -> list[Finding]:
    """Findings about the archive; what depends on something that failed is skipped."""
    looks: dict[str, Callable[[str, ArchiveClient], Finding]] = {
        "Music archive: is there": _is_there,
        "Music archive: login": _login,
        "Music archive: role": _role,
        "Music archive: strategy": _strategy,
    }
    findings: list[Finding] = []
    failed = ""
    with ArchiveClient(server) as client:
        for subject, look in looks.items():
            if failed:
                findings += skipped([subject], repr(failed))
                continue
            try:
                findings.append(look(subject, client))
            except BookpipeError as error:
                findings.append(failure(subject, error))
            failed = "" if findings[-1].ok else subject
    return findings


def _is_there(subject: str, client: ArchiveClient) -> Finding:
    answer = client.ask_openly("GET", "/up")
    if answer.ok:
        return Finding(subject, True, client.server.url)
    if 300 <= answer.status < 400:
        return Finding(
            subject, False, f"{client.server.url} redirects",
            "Set BOOKPIPE_ARCHIVE_URL to the address that answers itself (https instead of http?).",
        )  # fmt: skip
    return Finding(
        subject, False, f"{client.server.url}/up answers {answer.status}",
        "Is this the archive's address, and did the application start? Its log says why not.",
    )  # fmt: skip


def _login(subject: str, client: ArchiveClient) -> Finding:
    user = client.log_in().data.get("user")
    role = user.get("role") if isinstance(user, dict) else None
    return Finding(subject, True, f"{client.server.email}, role {role or 'unknown'}")


def _role(subject: str, client: ArchiveClient) -> Finding:
    answer = may_upload(client)
    if answer.status == 422:
        return Finding(subject, True, "may upload (asked with a request without a file)")
    if answer.status == 404:
        return Finding(
            subject, False, "the archive has no upload for users who are logged in",
            "In development mode its code answers 404 to all of them: start it in production mode.",
        )  # fmt: skip
    return Finding(subject, False, f"an upload without a file is answered with {answer.describe()}, not with 422")


def _strategy(subject: str, client: ArchiveClient) -> Finding:
    strategy = choose_strategy(client)
    if strategy == "direct":
        return Finding(subject, True, "direct: an upload that was cut off goes on where it was")
    return Finding(
        subject, True, "multipart: the archive has no direct uploads",
        "A file whose upload is cut off has to be sent again as a whole.",
    )  # fmt: skip
