"""A music archive: where it is, who uploads, and how patient we are with it."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from bookpipe.model.errors import ConfigError
from bookpipe.model.secrets import Secret

STRATEGIES = ("auto", "direct", "multipart")


@dataclass(frozen=True)
class MusicArchive:
    """What is known of an archive before anybody asks it. Opens nothing by itself. All times are seconds."""

    url: str  # the base URL, whose API is below /api/v1
    email: str
    password: Secret
    strategy: str = "auto"  # one of STRATEGIES
    connect_timeout: float = 10
    send_timeout: float = 60  # without a byte going out
    answer_timeout: float = 180  # the archive reads tags, and may read the whole file again, before it answers
    outage: float = 60  # how long nobody may answer before a batch is given up
    settle: float = 60  # how long after a lost answer the archive may still be at work on the request
    backoff: float = 0.5  # before the second attempt; doubles with each

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"BOOKPIPE_ARCHIVE_URL is no http:// or https:// address of a server: {parts.hostname}.")
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                "BOOKPIPE_ARCHIVE_URL has a user or password in it: the user is BOOKPIPE_ARCHIVE_EMAIL and the "
                "password BOOKPIPE_ARCHIVE_PASSWORD."
            )
        if self.strategy not in STRATEGIES:
            raise ConfigError(f"BOOKPIPE_ARCHIVE_STRATEGY is {self.strategy!r}; it must be one of {STRATEGIES}.")
        host = parts.netloc.lower()
        object.__setattr__(self, "url", f"{parts.scheme}://{host}{parts.path.rstrip('/')}")
        object.__setattr__(self, "email", self.email.strip().lower())  # the archive stores them so
