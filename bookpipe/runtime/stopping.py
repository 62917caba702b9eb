"""A request to stop, from where a signal arrives to where work can end in good order.

Long steps look at it between two pieces of work, and raise StoppedError: what is done is done, and the next run goes on
from there.
"""

import threading

from bookpipe.model.errors import TransientError

stop_requested = threading.Event()


class StoppedError(TransientError):
    """Somebody asked the work to stop. Nothing is wrong."""


def check_stop(what: str) -> None:
    """Raise StoppedError when a stop was requested. `what` is complete so far, for the message."""
    if stop_requested.is_set():
        raise StoppedError(f"Stopped on request. {what} Run the partition again to go on.")
