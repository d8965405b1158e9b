"""The endpoints that take snapshots, list them, and give one away as a backup.

Each of them is about the node that is asked: which of its snapshots there are, and what they hold, is known to
:class:`raftkv.interfaces.IBackups`; here is only how that is spelled in HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from raftkv.errors import BadRequest, NotFound
from raftkv.interfaces import IBackup, IBackups
from raftkv.web.documents import json_bytes
from raftkv.web.exchange import JSON, Answer, Exchange, Headers
from raftkv.web.failures import fail
from raftkv.web.parameters import consistency_of
from raftkv.web.queries import Parameters, flag_of
from raftkv.web.streaming import PieceSource, Streamed

PIECE_BYTES: Final = 64 * 1024

_RANGE: Final = re.compile(rb"bytes=([0-9]{1,18})-([0-9]{1,18})?")


class SnapshotOperations:
    """Snapshots over HTTP.

    :param backups: those of the node; ``None`` where there are none to be had.
    """

    def __init__(self, backups: IBackups | None) -> None:
        self._backups = backups

    def take(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/snapshots``."""
        _when_done(exchange, self._there().take(consistency_of(parameters)), lambda facts: _tell(exchange, facts))

    def list(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/snapshots``."""
        _when_done(exchange, self._there().list(), lambda found: _tell(exchange, {"snapshots": found}))

    def latest(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/snapshots/latest``."""
        backups = self._there()
        is_fresh = flag_of(parameters, "fresh")
        if not is_fresh and "consistency" in parameters:
            raise BadRequest("consistency: only for fresh=true")
        consistency = consistency_of(parameters) if is_fresh else None
        checksum = _known_checksum(exchange)
        if checksum:
            again = backups.open_again(checksum)

            def found(backup: IBackup | None) -> None:
                if backup is not None:
                    _send(exchange, backup)
                else:
                    _when_done(exchange, backups.open(consistency), lambda opened: _send(exchange, opened))

            _when_done(exchange, again, found)
        else:
            _when_done(exchange, backups.open(consistency), lambda backup: _send(exchange, backup))

    def archive(self, exchange: Exchange, parameters: Mapping[str, bytes]) -> None:
        """Serve ``POST /v1/archive``."""
        _when_done(exchange, self._there().archive(), lambda facts: _tell(exchange, facts))

    def _there(self) -> IBackups:
        if self._backups is None:
            raise NotFound("this node has no snapshots")
        return self._backups


def _known_checksum(exchange: Exchange) -> str:
    """Return the checksum of the snapshot of which the client has a part, empty where it has none."""
    tag = exchange.headers.get(b"if-range", b"")
    return tag.strip(b'"').decode("ascii", "replace") if b"range" in exchange.headers else ""


def _tell(exchange: Exchange, document: dict[str, Any]) -> None:
    exchange.answer(Answer(200, JSON, json_bytes(document)))


def _when_done(exchange: Exchange, done: Deferred[Any], answer: Callable[[Any], None]) -> None:
    def failed(failure: Failure) -> None:
        problem = failure.value
        fail(exchange, problem if isinstance(problem, Exception) else RuntimeError(repr(problem)))

    done.addCallback(answer).addErrback(failed)


def _send(exchange: Exchange, backup: IBackup) -> None:
    """Answer with a backup, or the part of it that is asked for (RFC 9110, section 14)."""
    size = backup.facts["bytes"]
    tag = b'"%b"' % backup.facts["checksum"].encode("ascii")
    start, stop = 0, size
    asked = _RANGE.fullmatch(exchange.headers.get(b"range", b""))
    if asked is not None and exchange.headers.get(b"if-range", tag) == tag:
        start = int(asked[1])
        stop = size if asked[2] is None else min(size, int(asked[2]) + 1)
        if start >= stop:
            backup.close()
            exchange.answer(_not_satisfiable(size))
            return
    headers = _headers(backup.facts, tag)
    status = 200
    if (start, stop) != (0, size):
        status = 206
        headers = (*headers, (b"Content-Range", b"bytes %d-%d/%d" % (start, stop - 1, size)))
    offset = start

    def next_piece() -> Deferred[bytes | None] | None:
        nonlocal offset
        if offset == stop:
            return None
        place, offset = offset, min(stop, offset + PIECE_BYTES)
        piece: Deferred[Any] = backup.read(place, offset - place)
        return piece

    exchange.stream(Streamed(status, headers, PieceSource(next_piece, backup.close), length=stop - start))


def _headers(facts: Mapping[str, Any], tag: bytes) -> Headers:
    name = f"raftkv-{facts['cluster_id'][:8]}-{facts['index']}.snapshot"
    told = (
        ("Content-Type", "application/octet-stream"),
        ("Content-Disposition", f'attachment; filename="{name}"'),
        ("Accept-Ranges", "bytes"),
        ("X-Raft-Snapshot-Cluster", facts["cluster_id"]),
        ("X-Raft-Snapshot-Index", facts["index"]),
        ("X-Raft-Snapshot-Term", facts["term"]),
        ("X-Raft-Snapshot-Revision", facts["revision"]),
        ("X-Raft-Snapshot-Bytes", facts["bytes"]),
        ("X-Raft-Snapshot-Checksum", facts["checksum"]),
    )
    return (*((title.encode("ascii"), str(value).encode("ascii", "replace")) for title, value in told), (b"ETag", tag))


def _not_satisfiable(size: int) -> Answer:
    document = {
        "error": {
            "code": "bad_request",
            "message": f"Range: the snapshot has {size} bytes",
            "outcome": "not_applied",
        }
    }
    return Answer(416, (*JSON, (b"Content-Range", b"bytes */%d" % size)), json_bytes(document))
