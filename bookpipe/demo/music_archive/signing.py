"""Messages that only this server can have written: API tokens, signed blob ids and upload urls.

The key is a file in the server's directory, so that what was handed out stays good when the server starts again.
"""

import base64
import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import Any

_SEPARATOR = "--"


class Signer:
    """Signs JSON values for one purpose each, with or without an end."""

    def __init__(self, key_file: Path) -> None:
        if not key_file.exists():
            key_file.write_bytes(secrets.token_bytes(32))
        self._key = key_file.read_bytes()

    def sign(self, purpose: str, value: Any, *, expires_at: float | None = None) -> str:
        """A text safe in urls; `expires_at` in epoch seconds of the server's clock."""
        message = json.dumps({"value": value, "pur": purpose, "exp": expires_at}).encode()
        encoded = base64.urlsafe_b64encode(message).decode()
        return f"{encoded}{_SEPARATOR}{self._digest(encoded)}"

    def verify(self, purpose: str, text: str, *, now: float) -> Any | None:
        """The value, or None when the text is not ours, for something else, or too old."""
        encoded, separator, digest = text.rpartition(_SEPARATOR)
        if not separator or not hmac.compare_digest(digest.encode(), self._digest(encoded).encode()):
            return None
        message = json.loads(base64.urlsafe_b64decode(encoded))
        expired = message["exp"] is not None and now > message["exp"]
        return None if message["pur"] != purpose or expired else message["value"]

    def _digest(self, encoded: str) -> str:
        return hmac.new(self._key, encoded.encode(), hashlib.sha256).hexdigest()
