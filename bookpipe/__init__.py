"""bookpipe moves very large personal media collections into self-hosted servers."""

__version__ = "0.1.0"
