"""Requests that nobody would send on purpose: what is made of them must not depend on the lane nor on the network.

Every seed is fixed, so a failure comes again; it names its seed and what was sent.
"""

from __future__ import annotations

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import BadRequest
from raftkv.web.bodies import ChunkedDecoder
from raftkv.web.framing import parse_headers
from raftkv.web.settings import WebSettings
from tests.web.lanes import HOST, Lane

SEEDS = 150
SETTINGS = WebSettings(max_header_bytes=600, max_value_bytes=300, max_body_bytes=400, max_key_bytes=30)

METHODS = (b"GET", b"PUT", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"BREW", b"get", b"CONNECT", b"G(T", b"")
PATHS = (
    b"/get?key=a",
    b"/get?key=%61&consistency=stale",
    b"/get?key=a&key=b",
    b"/set",
    b"/delete?key=a",
    b"/v1/kv/a",
    b"/v1/kv/a%2Fb",
    b"/v1/kv/a/b",
    b"/v1/kv//a//",
    b"/v1/kv/../a/./",
    b"/v1/kv/%00%ff",
    b"/v1/kv/%C3%A9\xc3\xa9",
    b"/v1/kv/%2",
    b"/v1/kv/%252F",
    b"/v1/kv/",
    b"/v1/kv/" + b"k" * 31,
    b"/v1/kv/a?consistency=maybe",
    b"/v1/kv",
    b"/v1/kv?prefix=a&limit=1",
    b"/v1/kv?revision=1&delimiter=%2F",
    b"/v1/kv?continue=AAAA",
    b"/v1/txn",
    b"/v1/increment",
    b"/v1/compact",
    b"/v1/leases",
    b"/v1/leases/1",
    b"/v1/leases/1/keepalive",
    b"/v1/leases/%31",
    b"/v1/locks",
    b"/v1/locks/a%2Fb",
    b"/v1/locks/a//b?token=1",
    b"/v1/elections/a/b",
    b"/v1/elections/e?token=1",
    b"/v1/status",
    b"/v1//status",
    b"/v1/status/",
    b"/v1/./status",
    b"/v1%2Fstatus",
    b"/%67et?key=a",
    b"/health/ready",
    b"//get?key=a",
    b"/",
    b"*",
    b"?",
    b"http://x/get?key=a",
    b"HTTP://x?key=a",
    b"http:///get?key=a",
    b"http://x@y/get?key=a",
    b"x:80",
    b"/get?key=a HTTP/1.1",
    b"/\x00",
    b"/" + b"a/" * 290,
)
VERSIONS = (b"HTTP/1.1",) * 12 + (b"HTTP/1.0", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.10", b"")
FIELDS = (
    b"Host: x",
    b"Host:",
    b"Origin: http://localhost:8080",
    b"Origin: http://evil.example",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: keep-alive, close",
    b"Expect: 100-continue",
    b"Content-Type: application/json",
    b"Content-Type: text/plain",
    b"Content-Encoding: gzip",
    b"Accept: application/octet-stream",
    b'If-Match: "1"',
    b"If-None-Match: *",
    b'If-None-Match: W/"1"',
    b"X-Lock: a%2Fb=1",
    b"X-Lock: a",
    b"X-Client-Id: c",
    b"X-Request-Seq: 1",
    b"X-Request-Seq: -1",
    b"Content-Length: 3",
    b"Content-Length: 003",
    b"Content-Length: +3",
    b"Content-Length: 3, 3",
    b"Content-Length: 99999999999999999999",
    b"Content-Length : 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked\t",
    b"Transfer-Encoding:\x0bchunked",
    b"transfer_encoding: chunked",
    b"TE: trailers",
    b"Upgrade: h2c",
    b" folded: 1",
    b"A: bare\nline feed",
    b"A: bare\rreturn",
    b"N\x00L: 1",
    b"Latin: \xe9",
    b"no colon",
    b"",
)
BODIES = (
    b"",
    b"abc",
    b'{"key":"a","value":"b"}',
    b'{"key":"a","value":"b","ttl":5}',
    b'{"key":"a","key":"b","value":""}',
    b'{"key":"n","by":-2}',
    b'{"ttl":5}',
    b'{"revision":1}',
    b'{"success":[{"op":"put","key":"a","value":"b"},{"op":"range","limit":1}]}',
    b"{",
    b"\xff" * 40,
    b"v" * 301,
)


def make_request(chance: random.Random) -> bytes:
    """Make one request that is right, mostly, but for a few things."""
    method, path = chance.choice(METHODS[: chance.choice((4, 4, 4, 11))]), chance.choice(PATHS)
    fields = [HOST[:-2]] if chance.random() < 0.95 else []
    fields += chance.choices(FIELDS, k=chance.choice((0, 0, 1, 1, 2)))
    body = chance.choice(BODIES)
    framing = chance.random()
    if framing < 0.4 and body:
        fields.append(b"Content-Length: %d" % (len(body) + (chance.choice((-1, 1)) if chance.random() < 0.1 else 0)))
    elif framing < 0.7:
        fields.append(b"Transfer-Encoding: chunked")
        body = make_chunks(chance, body)
    elif framing < 0.95:
        body = b""
    chance.shuffle(fields)
    line_end = b"\r\n" if chance.random() < 0.97 else b"\n"
    head = line_end.join([b" ".join((method, path, chance.choice(VERSIONS))), *fields, b"", b""])
    return head + body


def make_chunks(chance: random.Random, body: bytes) -> bytes:
    """Encode a body in chunks, mostly right."""
    data = b""
    while body:
        size = chance.randint(1, len(body))
        extension = chance.choice((b"", b"", b"", b";a=b", b' ; a="b"', b" ", b";\n", b";\x00"))
        data += chance.choice((b"%x", b"%X", b"00%x")) % size + extension + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:]
    return data + chance.choice((b"0\r\n\r\n",) * 6 + (b"0\r\nA: b\r\n\r\n", b"-1\r\n", b"0x0\r\n\r\n", b"0\n\n"))


def spoil(chance: random.Random, data: bytes) -> bytes:
    """Change a byte here or there."""
    spoiled = bytearray(data)
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        spoiled[chance.randrange(len(spoiled))] = chance.choice(b"\x00\t\n\r 0:;/%\x7f\xff")
    return bytes(spoiled)


def cut(chance: random.Random, data: bytes) -> list[bytes]:
    """Cut a stream into the pieces in which a network may bring it."""
    ends = sorted({len(data), *(chance.randrange(len(data)) for _ in range(chance.choice((1, 3, 40))))} - {0})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def answered(*, has_fast_lane: bool, pieces: list[bytes]) -> tuple[bytes, Lane]:
    """Send the pieces on one connection; return what came back, without 100 Continue, and the server."""
    lane = Lane(has_fast_lane=has_fast_lane, settings=SETTINGS)
    for piece in pieces:
        lane.connection.dataReceived(piece)
        lane.clock.advance(0)
    received = lane.received().replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    lane.hang_up()
    if lane.clock.getDelayedCalls() or lane.site._held_bytes or lane.site._all_unread_bytes:
        raise AssertionError("something is left of the connection")
    return received, lane


class StreamTests(SynchronousTestCase):
    """Whole connections full of requests, right and wrong."""

    def test_lanes_and_pieces(self) -> None:
        """Both lanes give the same bytes for the same bytes, and the same answers and writes however those arrive."""
        for seed in range(SEEDS):
            chance = random.Random(seed)
            data = b"".join(spoil(chance, make_request(chance)) for _ in range(chance.randint(1, 6)))
            pieces = cut(chance, data)
            fast, fast_lane = answered(has_fast_lane=True, pieces=pieces)
            klein, klein_lane = answered(has_fast_lane=False, pieces=pieces)
            story = f"seed {seed}: {pieces!r}"
            self.assertEqual(fast, klein, story)
            self.assertEqual(fast_lane.key_value.commands, klein_lane.key_value.commands, story)
            whole, whole_lane = answered(has_fast_lane=True, pieces=[data])
            self.assertEqual(statuses(fast), statuses(whole), story)
            self.assertEqual(fast_lane.key_value.commands, whole_lane.key_value.commands, story)

    def test_every_answer_is_ours(self) -> None:
        """Whatever comes is answered with one of the contract's statuses and its headers; nothing is a fault."""
        for seed in range(SEEDS, 2 * SEEDS):
            chance = random.Random(seed)
            data = spoil(chance, make_request(chance))
            received, lane = answered(has_fast_lane=bool(seed % 2), pieces=[data])
            if not received:
                self.assertEqual(lane.key_value.commands, [], f"seed {seed}: {data!r}")
                continue
            first = received.partition(b"\r\n\r\n")[0]
            self.assertIn(b"\r\nX-Raft-Node: node1\r\n", first + b"\r\n", f"seed {seed}: {data!r}")
            self.assertNotIn(500, statuses(received), f"seed {seed}: {data!r}")
        self.assertEqual(self.flushLoggedErrors(), [])


def statuses(data: bytes) -> list[int]:
    """Return the statuses of the answers in a stream; no body of ours has such a line in it."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\nServer", data)]


def decoded_plainly(data: bytes) -> tuple[bytes, int] | None:
    """Decode a chunked body line by line; return it and where it ends, ``None`` where it does not or is malformed."""
    body, position = b"", 0
    while True:
        line, end, _ = data[position:].partition(b"\r\n")
        size, semicolon, extension = line.partition(b";")
        if semicolon:
            size = size.rstrip(b" \t")
        is_number = size != b"" and all(digit in b"0123456789abcdefABCDEF" for digit in size) and len(size) <= 15
        if not end or len(line) > 256 or not is_number or any(byte < 32 and byte != 9 for byte in extension):
            return None
        position += len(line) + 2
        if not int(size, 16):
            break
        chunk = data[position : position + int(size, 16) + 2]
        if len(chunk) != int(size, 16) + 2 or not chunk.endswith(b"\r\n"):
            return None
        body += chunk[:-2]
        position += len(chunk)
    while True:
        line, end, _ = data[position:].partition(b"\r\n")
        position += len(line) + 2
        if not end or (line and re.fullmatch(rb"[!-~]+:[\t -~\x80-\xff]*", line) is None):
            return None
        if not line:
            return body, position


def decoded(data: bytes, step: int) -> tuple[bytes, int] | None:
    """Decode the same in pieces, with the real decoder."""
    decoder, body, position, is_complete = ChunkedDecoder(), bytearray(), 0, False
    for end in range(step, len(data) + step, step):
        try:
            position, is_complete = decoder.decode(data[:end], position, body)
        except BadRequest:
            return None
        if is_complete:
            return bytes(body), position
    return None


CHUNKED_PIECES = some.sampled_from(
    (
        b"0",
        b"1",
        b"3",
        b"0a",
        b"F",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"0\r\n\r\n",
        b"\r",
        b"\n",
        b";",
        b" ",
        b"\t",
        b"A:b",
        b"x",
    )
)
HEADER_PIECES = some.sampled_from(
    (
        b"Content-Length",
        b"Transfer-Encoding",
        b"Host",
        b"A",
        b":",
        b": ",
        b"\r\n",
        b"\r\n",
        b"chunked",
        b"1",
        b"2",
        b",",
        b" ",
        b"\t",
        b"\r",
        b"\n",
        b"\x00",
        b"\xff",
    )
)
#: The same examples in every run, and none kept on disk.
ALWAYS_THE_SAME = settings(derandomize=True, database=None, deadline=None, max_examples=400)


class TwinTests(SynchronousTestCase):
    """What is clever beside what is plain."""

    @ALWAYS_THE_SAME
    @given(some.lists(CHUNKED_PIECES, max_size=12), some.integers(1, 8))
    def test_chunked(self, pieces: list[bytes], step: int) -> None:
        """A chunked body is what a plain reader makes of it, however it is cut."""
        data = b"".join(pieces)
        self.assertEqual(decoded(data, step), decoded_plainly(data))

    @ALWAYS_THE_SAME
    @given(some.binary(max_size=300), some.lists(some.integers(1, 40), max_size=20), some.integers(1, 30))
    def test_chunked_round_trip(self, body: bytes, sizes: list[int], step: int) -> None:
        """Whatever is encoded in chunks comes out again, and what follows is left alone."""
        data, rest = b"", body
        for size in sizes:
            piece, rest = rest[:size], rest[size:]
            data += b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        data += b"%x;last\r\n%b\r\n" % (len(rest), rest) if rest else b""
        data += b"0\r\n\r\n"
        self.assertEqual(decoded(data + b"GET /", step), (body, len(data)))

    @ALWAYS_THE_SAME
    @given(some.lists(HEADER_PIECES, max_size=14))
    def test_headers(self, pieces: list[bytes]) -> None:
        """A header block that is accepted has one reading: written anew it is the same, and its length is certain."""
        block = b"".join(pieces)
        try:
            parsed = parse_headers(block)
        except BadRequest:
            return
        anew = b"\r\n".join(b"%b: %b" % item for item in parsed.headers.items())
        self.assertEqual(parse_headers(anew), parsed)
        lowered = block.lower()
        self.assertLessEqual(lowered.count(b"content-length:") + lowered.count(b"transfer-encoding:"), 1, block)
        for line in block.split(b"\r\n") if block else []:
            name, colon, value = line.partition(b":")
            self.assertTrue(colon and re.fullmatch(rb"[A-Za-z0-9,-]+", name.replace(b",", b"")), block)
            self.assertIsNone(re.search(rb"[\r\n\x00]", value), block)
