"""bookpipe's errors as Dagster's decisions.

Transient: the op's retry policy answers within seconds, then the retry sensor within minutes.
Config: no use trying again in seconds; the retry sensor comes back a few times, a person may have mended it.
Terminal: neither. The run's tag `bookpipe/error` says which it was, for sensors and for people.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from bookpipe.model.errors import BookpipeError, TerminalError, TransientError
from bookpipe.runtime.stopping import StoppedError

ERROR_TAG = "bookpipe/error"
TERMINAL = "terminal"

# Waits of 1, 3, 7 and 15 seconds, give or take one: long enough for a database to restart.
RETRY = dg.RetryPolicy(max_retries=4, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


def kind_of(error: BookpipeError) -> str:
    if isinstance(error, TransientError):
        return "transient"
    return TERMINAL if isinstance(error, TerminalError) else "config"


@contextmanager
def explained(context: dg.OpExecutionContext) -> Iterator[None]:
    """bookpipe's errors leave the block as failures with their text; only transient ones are retried."""
    try:
        yield
    except BookpipeError as error:
        kind = kind_of(error)
        context.instance.add_run_tags(context.run_id, {ERROR_TAG: kind})
        raise dg.Failure(
            description=str(error),
            metadata={"kind": kind, "error": type(error).__name__},
            allow_retries=kind == "transient" and not isinstance(error, StoppedError),
        ) from error
