"""The conversation over HTTP/1.1, keep-alive, answers with a Content-Length; and the requests of ``/v1/kv/``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from raftkv.bench.conversations import NotUnderstood
from raftkv.bench.specification import Load

_MAX_HEAD_BYTES: Final = 64 * 1024
_CLOSE: Final = b"\r\nconnection: close"


class HttpAnswers:
    """The half of an HTTP conversation that listens; answers come in the order of the requests."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.ends = False
        self._oldest = 0
        self._buffer = b""

    def greeting(self) -> bytes:
        """HTTP has none."""
        return b""

    def hear(self, data: bytes) -> tuple[list[int], list[int], bytes]:
        """Take answers."""
        good: list[int] = []
        bad: list[int] = []
        buffer = self._buffer + data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = buffer[:end].lower()
            at = head.find(b"content-length:")
            if at < 0:
                raise NotUnderstood(f"an answer without Content-Length: {head!r:.200}")
            begin = end + 4
            after = begin + int(head[at + 15 :].split(b"\r\n", 1)[0])
            if after > len(buffer):
                break
            if head[9:10] == b"2":
                good.append(self._oldest)
            else:
                bad.append(self._oldest)
                self.codes[error_code(head, buffer[begin:after])] += 1
            self._oldest += 1
            buffer = buffer[after:]
            if _CLOSE in head:  # a node that is stopped says so; what was sent behind is not read any more
                self.ends = True
                break
        if end < 0 and len(buffer) > _MAX_HEAD_BYTES:
            raise NotUnderstood("what listens there does not speak HTTP")
        self._buffer = buffer
        return good, bad, b""


def error_code(head: bytes, body: bytes) -> str:
    """Return the code of an error's document; where there is none, one that names the status."""
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        code = None
    return code if isinstance(code, str) else f"http_{head[9:12].decode('ascii', 'replace')}"


class HttpConversation(HttpAnswers):
    """Values under ``/v1/kv/``: a PUT with the raw bytes, or a GET."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self._skip = len(load.prefix.encode())
        host = load.addresses[0]
        path = f"/v1/kv/{quote(load.prefix)}"
        length = f"Content-Length: {load.value_bytes}"
        level = "stale" if load.operation == "get-stale" else "linearizable"
        self._put = f"PUT {path}".encode(), f" HTTP/1.1\r\nHost: {host}\r\n{length}\r\n\r\n".encode() + load.value
        self._get = f"GET {path}".encode(), f"?consistency={level} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._only = self._put if load.operation == "put" else self._get

    def ask(self, keys: Sequence[bytes]) -> bytes:
        """Make a request for each key; what follows the prefix needs no escaping."""
        skip = self._skip
        before, after = self._only
        return b"".join([b"%b%b%b" % (before, key[skip:], after) for key in keys])


class MixedHttpConversation(HttpConversation):
    """The same for a mixed load."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._mix = load.mix()

    def ask(self, keys: Sequence[bytes]) -> bytes:
        """Make a request for each key: a read or a write, as the mix says."""
        skip = self._skip
        pieces: list[bytes] = []
        for key, is_read in zip(keys, self._mix, strict=False):
            before, after = self._get if is_read else self._put
            pieces += (before, key[skip:], after)
        return b"".join(pieces)
