"""Where commands print. Paths, names and messages come from outside, and are printed as they are."""

from rich.console import Console


def plain_console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """A console that takes no text for markup ("[/srv]") or for emoji (":dog:"). What has a style is a Text."""
    return Console(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False)
