"""The HTTP requests of each contestant: which path, which body, for which of its interfaces ("doors").

Each asks for the same: one key, one value of the same size, the same consistency.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from raftkv.bench.specification import Load

#: Those that :mod:`raftkv.bench.http` has by itself.
OWN_DOORS: Final = ("PUT /v1/kv/", "GET /v1/kv/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = ""

    def to_bytes(self) -> bytes:
        """Return it as it travels."""
        kind = f"Content-Type: {self.content_type}\r\n" if self.content_type else ""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: bench\r\n{kind}Content-Length: {len(self.body)}\r\n\r\n"
        return head.encode() + self.body


def request(load: Load, key: bytes) -> Request:
    """Return the request of a load for a key.

    :raises ValueError: there is no such door.
    """
    name = key.decode()
    text = load.value.decode()
    is_put = load.operation == "put"
    is_stale = load.operation == "get-stale"
    if load.door == "PUT /v1/kv/" and is_put:
        return Request(method="PUT", path=f"/v1/kv/{name}", body=load.value)
    if load.door == "POST /set" and is_put:
        body = b'{"key":"%b","value":"%b"}' % (key, load.value)
        return Request(method="POST", path="/set", body=body, content_type="application/json")
    if load.door in ("GET /v1/kv/", "GET /get") and not is_put:
        level = "stale" if is_stale else "linearizable"
        path = f"/v1/kv/{name}?" if load.door == "GET /v1/kv/" else f"/get?key={name}&"
        return Request(method="GET", path=f"{path}consistency={level}")
    if load.door == "v3 gateway":
        encoded = base64.b64encode(key)
        if is_put:
            body = b'{"key":"%b","value":"%b"}' % (encoded, base64.b64encode(load.value))
            return Request(method="POST", path="/v3/kv/put", body=body, content_type="application/json")
        body = b'{"key":"%b"%b}' % (encoded, b',"serializable":true' if is_stale else b"")
        return Request(method="POST", path="/v3/kv/range", body=body, content_type="application/json")
    if load.door == "retired v2 API":
        if is_put:
            form = "application/x-www-form-urlencoded"
            return Request(method="PUT", path=f"/v2/keys/{name}", body=f"value={text}".encode(), content_type=form)
        return Request(method="GET", path=f"/v2/keys/{name}{'' if is_stale else '?quorum=true'}")
    raise ValueError(f"no {load.operation} by {load.door!r}")
