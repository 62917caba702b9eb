"""Values that must never be printed."""

import re
from dataclasses import dataclass

# The password of a URL ends at the last "@" before the host; one of a connection string may be quoted.
_PASSWORD = re.compile(
    r"(://[^:/@\s]*:)\S*?(@)(?=[^@\s/]*(?:[/?\s\"']|$))|(password\s*=\s*)(?:'(?:\\.|[^'\\])*'|[^\s&]+)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A value whose repr and str say nothing; `reveal()` gives it to the one who needs it."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(****)"

    __str__ = __repr__


def redact(text: str) -> str:
    """`text` with the passwords of any URLs or connection strings in it struck out."""
    return _PASSWORD.sub(lambda m: f"{m[1] or m[3]}****{m[2] or ''}", text)
