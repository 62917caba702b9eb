"""The errors bookpipe raises, sorted by what helps against them.

A driver's exception is translated into one of these once, where the driver is called.
Every message names the thing, the cause and what to do.
"""


class BookpipeError(Exception):
    """Anything bookpipe knows how to explain."""


class TransientError(BookpipeError):
    """Trying the same thing again may work: a lost connection, a deadlock, a full disk."""


class TerminalError(BookpipeError):
    """Trying again cannot work: corrupt input, a bug, data that contradicts itself."""


class ConfigError(BookpipeError):
    """A person has to change a setting, a right or a path first; then trying again works."""


class UnreachableError(TransientError, ConfigError):
    """A server does not answer: it may be restarting, or the address may be wrong."""


class PartitionError(ConfigError):
    """A partition key that the source does not have, or that overlaps another partition."""
