"""Fetching a backup from a cluster: which node is asked, what is asked again, and how it is checked.

Plain sockets and no reactor: one transfer, of which nothing else need go on meanwhile.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from raftkv.server.backupfile import BackupFile

PATH: Final = "/v1/snapshots/latest"
_PIECE_BYTES: Final = 256 * 1024
_ATTEMPTS: Final = 5  # of one transfer that breaks


class NotFetched(Exception):
    """No node has given a backup; the message says what each of them said."""


class _Refused(Exception):
    """A node has answered, with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a node says of the backup that it has sent.

    :ivar size_bytes: of the file.
    :ivar checksum: hex.
    """

    address: str
    size_bytes: int
    checksum: str
    index: int
    term: int
    revision: int


def fetch(
    addresses: Sequence[str],
    file: BackupFile,
    *,
    query: str,
    patience_seconds: float,
    progress: Callable[[int, int], None],
) -> Fetched:
    """Write a backup of the first node that gives one to a file, whole and checked, and finish it.

    A transfer that breaks goes on where it was, on the same node.

    :param addresses: URLs of nodes, asked in this order.
    :param query: what follows the path, with its question mark; empty for nothing.
    :param patience_seconds: without a byte.
    :param progress: told how many bytes have arrived, and of how many.
    :raises NotFetched: nobody gives one.
    :raises ValueError: an address makes no sense.
    :raises raftkv.errors.StorageError: what has arrived is damaged, or cannot be written.
    """
    complaints = []
    for address in addresses:
        transfer = _Transfer(address, file, query=query, patience_seconds=patience_seconds, progress=progress)
        for _ in range(_ATTEMPTS):
            try:
                transfer.run()
            except _Refused as refused:
                complaints.append(f"{address}: {refused}")
                break
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
                if not file.received_bytes:
                    complaints.append(f"{address}: {reason}")
                    break
                complaints.append(f"{address}: broke after {file.received_bytes} bytes: {reason}")
            else:
                fetched = transfer.fetched()
                file.finish(fetched.checksum)
                return fetched
        file.begin_anew()
    raise NotFetched("; ".join(complaints))


class _Transfer:
    """The transfer of one file from one node, over as many connections as it takes."""

    def __init__(
        self,
        address: str,
        file: BackupFile,
        *,
        query: str,
        patience_seconds: float,
        progress: Callable[[int, int], None],
    ) -> None:
        url = urlsplit(address if "//" in address else f"http://{address}")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{address!r} is not the URL of a node, such as http://127.0.0.1:8080")
        self._address = address
        self._kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._host, self._port = url.hostname, url.port
        self._file = file
        self._query = query
        self._patience_seconds = patience_seconds
        self._progress = progress
        self._headers: Mapping[str, str] = {}

    def run(self) -> None:
        """Fetch what is missing.

        :raises _Refused: the node gives none.
        """
        connection = self._kind(self._host, self._port, timeout=self._patience_seconds)
        try:
            connection.request("GET", PATH + self._target(), headers=self._conditions())
            answer = connection.getresponse()
            if answer.status not in (200, 206):
                raise _Refused(_reason(answer.status, answer.read(1 << 20)))
            if answer.status == 200:
                self._file.begin_anew()
            self._headers = {name.lower(): value for name, value in answer.getheaders()}
            size_bytes = self.fetched().size_bytes
            while self._file.received_bytes < size_bytes:
                data = answer.read(min(_PIECE_BYTES, size_bytes - self._file.received_bytes))
                if not data:
                    raise ConnectionError("the connection was closed")
                self._file.write(data)
                self._progress(self._file.received_bytes, size_bytes)
        finally:
            connection.close()

    def fetched(self) -> Fetched:
        """Return what the node said of the file.

        :raises _Refused: it is not such a node.
        """
        try:
            return Fetched(
                address=self._address,
                size_bytes=int(self._headers["x-raft-snapshot-bytes"]),
                checksum=self._headers["x-raft-snapshot-checksum"],
                index=int(self._headers["x-raft-snapshot-index"]),
                term=int(self._headers["x-raft-snapshot-term"]),
                revision=int(self._headers["x-raft-snapshot-revision"]),
            )
        except (KeyError, ValueError) as error:
            raise _Refused(f"the answer is not that of a node: {error}") from None

    def _target(self) -> str:
        # A second look must not make the node take another snapshot: the one that was begun is wanted.
        return "" if self._file.received_bytes else self._query

    def _conditions(self) -> dict[str, str]:
        if not self._file.received_bytes:
            return {}
        etag = self._headers.get("etag", "")
        return {"Range": f"bytes={self._file.received_bytes}-", "If-Range": etag}


def _reason(status: int, body: bytes) -> str:
    try:
        error: Any = json.loads(body)["error"]
        return f"{error['message']} ({error['code']})"
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {status}"
