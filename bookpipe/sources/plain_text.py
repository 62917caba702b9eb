"""Texts of files from outside, as they may be stored and shown."""

# PostgreSQL refuses NUL, UTF-8 lone surrogates, download headers line ends; the other controls only do harm.
_UNWANTED: dict[int, str | None] = dict.fromkeys([*range(32), *range(127, 160), *range(0xD800, 0xE000), 0xFEFF])
_UNWANTED |= dict.fromkeys((9, 10, 11, 12, 13, 28, 29, 30, 31, 133), " ")
_SLACK = 4  # times the limit are looked at: enough for the blanks that collapse


def clean_text(text: str | None, limit: int) -> str:
    """`text` on one line, its blanks collapsed, at most `limit` characters; '' for None."""
    if not text:
        return ""
    text = text[: _SLACK * limit]
    if not text.isprintable():
        text = text.translate(_UNWANTED)
    return " ".join(text.split())[:limit].rstrip()
