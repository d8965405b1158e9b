"""The addresses of nodes as users write them, and as nodes name the leader's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

_SCHEMES: Final = ("http", "https")


def parse_addresses(addresses: str | Iterable[str]) -> tuple[str, ...]:
    """Read the addresses of a cluster.

    :param addresses: one URL such as ``http://localhost:8080``, several with commas between them, or a list of either.
    :return: the URLs, without slashes at the end.
    :raises ValueError: an address that is none, named.
    """
    given = [addresses] if isinstance(addresses, str) else list(addresses)
    parsed: list[str] = []
    for text in given:
        if not isinstance(text, str):
            raise ValueError(f"address {text!r}: expected a string such as 'http://localhost:8080'")
        parsed.extend(_parse_address(part.strip()) for part in text.split(",") if part.strip())
    if not parsed:
        raise ValueError("no address given; expected something like 'http://localhost:8080'")
    return tuple(parsed)


def leader_address(named: str, *, asked: str) -> str | None:
    """Make a URL of the address that ``X-Raft-Leader`` names.

    :param named: ``host:port``, or empty; anything else is taken for empty.
    :param asked: the URL of the node that named it, whose scheme it shares.
    """
    if not named:
        return None
    try:
        return _parse_address(named if "://" in named else f"{urlsplit(asked).scheme}://{named}")
    except ValueError:
        return None


def _parse_address(text: str) -> str:
    def wrong(problem: str) -> ValueError:
        return ValueError(f"address {text!r}: {problem}; expected something like 'http://localhost:8080'")

    if "://" not in text:
        raise wrong("the scheme is missing")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise wrong(str(error)) from None
    if parts.scheme not in _SCHEMES:
        raise wrong(f"the scheme {parts.scheme!r} is neither http nor https")
    if not parts.hostname:
        raise wrong("the host is missing")
    if port == 0:
        raise wrong("port 0 cannot be connected to")
    if parts.username is not None or parts.password is not None:
        raise wrong("a user name or password does not belong here")
    if parts.query or parts.fragment or parts.path.strip("/"):
        raise wrong("there is something after the host and port")
    if any(character.isspace() or not character.isprintable() for character in text) or not text.isascii():
        raise wrong("it contains a character that no address has")
    return f"{parts.scheme}://{parts.netloc}"
