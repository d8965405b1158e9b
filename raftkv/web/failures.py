"""What becomes of an exception inside a request."""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import InvariantViolation, RaftKVError, StorageError
from raftkv.web.errors import error_answer, internal_error
from raftkv.web.exchange import Exchange, Headers

_log: Final = Logger()


def fail(exchange: Exchange, error: Exception, headers: Headers = ()) -> None:
    """Answer a request with the error that befell it; call it while the error is being handled, or with a result.

    :param error: a :exc:`RaftKVError` is told as it is. Any other is a fault of ours: logged with its traceback, and
        told as ``internal``, with no word of what it was.
    :param headers: to add to what a :exc:`RaftKVError` is told with.
    :raises InvariantViolation: given one, once it has been answered; likewise a :exc:`StorageError`. They stop the
        node, and whoever called us has to see them.
    """
    if isinstance(error, RaftKVError):
        answer = error_answer(error, is_write=exchange.is_write)
        exchange.answer(answer._replace(headers=answer.headers + headers) if headers else answer)
        return
    _log.failure("{route} failed", Failure(error), route=exchange.route)
    if not exchange.is_answered:
        exchange.answer(internal_error(is_write=exchange.is_write))
    if isinstance(error, (InvariantViolation, StorageError)):
        raise error
