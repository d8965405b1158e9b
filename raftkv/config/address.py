"""A host and a port, as they stand in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")
_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port.

    :ivar host: a name or an IP address, without brackets; empty is every interface.
    :ivar port: 1 to 65535.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``host:port``, ``:port`` or ``[ipv6]:port``.

        :raises ValueError: the text is none of these.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise ValueError(f"{text!r} does not end in a colon and a port between 1 and 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            if not _IPV6.fullmatch(host):
                raise ValueError(f"{text!r} holds no IPv6 address between its brackets")
        elif host and not _HOST.fullmatch(host):
            raise ValueError(f"{text!r} holds no host name or IP address before its port")
        return cls(host, int(port))

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every interface, so that nobody could connect to it by this name."""
        return self.host in _WILDCARDS

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", self.host) is not None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
