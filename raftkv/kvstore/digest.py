"""How a state is reduced to 64 bits, so that nodes can tell whether they still hold the same one.

The digest is a sum over everything that the state holds, kept up to date by adding what comes and subtracting what
goes. A sum has no order, so it does not matter in which order keys were written, and nothing in it depends on
Python's hash seed, the platform or the version (B40).

- A record counts ``token * weight``: the token stands for its key, the weight for its fields. Within one key every
  difference of the fields shows; between keys the tokens tell apart who holds what. Both are plain integers, and a
  weight is linear in the revisions, so that an overwrite needs only the difference of the two weights.
- A lease or a ticket for a lock counts its number times a checksum of its fields.
- An answer of a session counts ``(sequence + SEQUENCE_OFFSET) * crc``, a session the sum of its answers and of its
  last write time, times the token of its client.

CRC-32C is cheap in C, and what the digest has to find are accidents. It protects against nobody who forges states.
:mod:`raftkv.kvstore.store` and :mod:`raftkv.kvstore.sessions` write the sums of the hot path out in place; the
functions here are their definition, used where a state is built anew, and by the tests that compare the two.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack
from google_crc32c import extend

Record = tuple[bytes, int, int, int, int]  #: value, create_revision, mod_revision, version, lease (0: none)

MODULUS: Final = 2**64 - 59  # the largest prime below 2**64: no token but 0 can make a difference vanish

# Odd 64-bit constants without meaning (from the digits of the square roots of the first primes).
CREATED: Final = 0x6A09E667F3BCC909
MODIFIED: Final = 0xBB67AE8584CAA73B
VERSION: Final = 0x3C6EF372FE94F82B
LEASE: Final = 0xA54FF53A5F1D36F1
LAST_WRITE: Final = 0x510E527FADE682D1
SESSIONS: Final = 0x9B05688C2B3E6C1F
REVISION: Final = 0x1F83D9ABFB41BD6B
COMPACT_REVISION: Final = 0x5BE0CD19137E2179
NUMBERED: Final = 0xCBBB9D5DC1059ED9
LAST_NUMBER: Final = 0x629A292A367CD507

TOKEN_OFFSET: Final = 2**32  # keeps a token from being 0, whatever the checksum
SEQUENCE_OFFSET: Final = 2**33  # likewise for a sequence number


def token(name: bytes, namespace: int = 0) -> int:
    """Return the factor that stands for a key or a client id.

    :raises TypeError: ``name`` is not bytes.
    """
    crc: int = extend(namespace, name)
    return crc + TOKEN_OFFSET


def weight(record: Record) -> int:
    """Return the number that stands for the fields of a record.

    :raises TypeError: the value is not bytes, or another field is not a number.
    """
    value, create_revision, mod_revision, version, lease = record
    crc: int = extend(0, value)
    return crc + CREATED * create_revision + MODIFIED * mod_revision + VERSION * version + LEASE * lease


def answer_weight(sequence: int, kept: bytes) -> int:
    """Return the number that stands for one remembered answer of a session.

    :param kept: fingerprint and packed answer.
    """
    crc: int = extend(0, kept)
    return (sequence + SEQUENCE_OFFSET) * (crc + TOKEN_OFFSET)


def numbered_weight(number: int, fields: tuple[Any, ...]) -> int:
    """Return the number that stands for a lease or a ticket: something that has a number of its own.

    :raises TypeError: the fields are not such that msgpack can pack them.
    """
    crc: int = extend(0, msgpack.packb(fields))
    return (number + SEQUENCE_OFFSET) * (crc + len(fields) * TOKEN_OFFSET)


def combine(
    *,
    records_sum: int,
    sessions_sum: int,
    numbered_sum: int,
    last_number: int,
    revision: int,
    compact_revision: int,
) -> str:
    """Return the digest as 16 hex digits."""
    total = records_sum + SESSIONS * sessions_sum + REVISION * revision + COMPACT_REVISION * compact_revision
    total += NUMBERED * numbered_sum + LAST_NUMBER * last_number
    return f"{total % MODULUS:016x}"
