"""Request lines, header blocks and chunked bodies."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import BadRequest, TooLarge
from raftkv.web.bodies import MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES, ChunkedDecoder
from raftkv.web.framing import FIELD_LINE, MAX_HEADER_LINES, parse_headers, parse_request_line


def request_line(line: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    return tuple(parse_request_line(line, 0, len(line)))


class RequestLineTests(SynchronousTestCase):
    """The first line."""

    def test_forms_of_a_target(self) -> None:
        """A path is taken as it is, and path and host of an absolute URL are taken out of it."""
        for target, path, host in (
            (b"/a//b/../%2F?x=1?y#z", b"/a//b/../%2F?x=1?y#z", b""),
            (b"//host/a", b"//host/a", b""),
            (b"/\xc3\xa9", b"/\xc3\xa9", b""),
            (b"http://host:1/a?b", b"/a?b", b"host:1"),
            (b"HTTPS://host", b"/", b"host"),
            (b"http://host?q", b"/?q", b"host"),
        ):
            self.assertEqual(request_line(b"GET %b HTTP/1.1" % target), (b"GET", path, b"1", host))
        self.assertEqual(request_line(b"OPTIONS * HTTP/1.0"), (b"OPTIONS", b"*", b"0", b""))

    def test_malformed(self) -> None:
        """Anything else is refused."""
        for line in (
            b"",
            b"GET",
            b"GET /",
            b"GET / HTTP/2.0",
            b"GET / HTTP/1.2",
            b"GET / HTTP/0.9",
            b"GET  / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET /\t HTTP/1.1",
            b"GET /\n HTTP/1.1",
            b"GE(T / HTTP/1.1",
            b"GET x HTTP/1.1",
            b"GET * HTTP/1.1",
            b"CONNECT host:1 HTTP/1.1",
            b"GET ftp://host/ HTTP/1.1",
            b"GET http:///get HTTP/1.1",
            b"GET http://user@host/ HTTP/1.1",
            b"GET http://host#/ HTTP/1.1",
            b"GET http://h\xc3\xb6st/ HTTP/1.1",
            b"GET http:/get HTTP/1.1",
            b"GET /\xd9\xa1 HTTP/1.\xd9\xa1",
            b"PRI * HTTP/2.0",
            b"\x16\x03\x01\x02\x00\x01",
        ):
            with self.assertRaises(BadRequest, msg=line):
                request_line(line)


class HeaderTests(SynchronousTestCase):
    """Header blocks."""

    def test_values(self) -> None:
        """Names are folded to lower case, values are stripped, a repeated name is a list."""
        block = parse_headers(b"Host:x\r\nA: \t 1 \t\r\na:2\r\nEmpty:\r\nLatin: \xe9")
        self.assertEqual(block.headers, {b"host": b"x", b"a": b"1, 2", b"empty": b"", b"latin": b"\xe9"})
        self.assertEqual((block.content_length, block.is_chunked, block.has_host), (0, False, True))
        self.assertEqual(parse_headers(b"").headers, {})

    def test_framing(self) -> None:
        """Length, coding, expectation and persistence are read out of the headers."""
        self.assertEqual(parse_headers(b"Content-Length: 007").content_length, 7)
        self.assertTrue(parse_headers(b"Transfer-Encoding: Chunked").is_chunked)
        self.assertTrue(parse_headers(b"Expect: 100-Continue").expects_continue)
        self.assertTrue(parse_headers(b"Connection: TE, Close").says_close)
        self.assertTrue(parse_headers(b"Connection: keep-alive\r\nConnection: x").says_keep_alive)
        self.assertFalse(parse_headers(b"Connection: not-close").says_close)
        self.assertFalse(parse_headers(b"Connection: keep-alive, close").says_keep_alive)

    def test_malformed(self) -> None:
        """What two readers could understand in two ways is refused."""
        for block in (
            b"NoColon",
            b": no name",
            b"Name : space before the colon",
            b"A: 1\r\n folded",
            b"A: 1\r\n\tfolded",
            b"A: bare\nline feed",
            b"A: bare\rreturn",
            b"A: \x00",
            b"A: \x7f",
            b"N\xe9: not ASCII",
            b"A: 1\r\n\r\nB: 2",
            b"Host: a\r\nHost: a",
            b"Host: a b",
            b"Host: a/b",
            b"Host: a@b",
            b"Content-Length: -1",
            b"Content-Length: +1",
            b"Content-Length: 1_0",
            b"Content-Length: 0x10",
            b"Content-Length: 1 0",
            b"Content-Length: 1.0",
            b"Content-Length: \xd9\xa1",
            b"Content-Length: \xb2",
            b"Content-Length: 5\r\ncontent-length: 6",
            b"Content-Length:",
            b"Content-Length: 5\r\nContent-Length: 5",
            b"Content-Length: 5, 5",
            b"Content-Length: " + b"9" * 5000,
            b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked, chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer-Encoding:",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        ):
            with self.assertRaises(BadRequest, msg=block):
                parse_headers(block)

    def test_many_lines(self) -> None:
        """Lines are counted, for a short one costs far more memory than it has bytes (B70)."""
        line = b"A: b\r\n"
        parse_headers((line * MAX_HEADER_LINES).removesuffix(b"\r\n"))
        with self.assertRaises(TooLarge):
            parse_headers(line * MAX_HEADER_LINES + b"A: b")

    def test_expressions_are_linear(self) -> None:
        """No header takes more steps than it has bytes: a repetition that backtracks would not return (B70)."""
        spaces = b" " * 1_000_000
        for block in (b"A:" + spaces + b"\x00", b"A:" + spaces.replace(b" ", b"\t ") + b"\n", b"Host:" + spaces + b"/"):
            with self.assertRaises(BadRequest):
                parse_headers(block)
        with self.assertRaises(BadRequest):
            request_line(b"A" * 1_000_000 + b" /" + spaces)
        self.assertEqual(FIELD_LINE.fullmatch(b"A:" + spaces + b"\r"), None)


def decode(data: bytes, step: int) -> tuple[bytes, int]:
    """Decode a chunked body that arrives in pieces; return it and where it ended."""
    decoder, body, position, is_complete = ChunkedDecoder(), bytearray(), 0, False
    for end in [*range(step, len(data), step), len(data)]:
        position, is_complete = decoder.decode(data[:end], position, body)
        if is_complete:
            return bytes(body), position
    raise AssertionError("not complete")


class ChunkedTests(SynchronousTestCase):
    """Chunked bodies."""

    def test_every_split(self) -> None:
        """However the bytes arrive, the body is the same, and what follows it is left alone."""
        data = b'5\r\nhello\r\n00A ;name="a;b"\r\n, world...\r\n1;x\r\n!\r\n0;last\r\nTrailer: 1\r\nOther:\r\n\r\nGET /'
        for step in range(1, len(data) + 1):
            self.assertEqual(decode(data, step), (b"hello, world...!", len(data) - 5))

    def test_malformed(self) -> None:
        """Anything else is refused."""
        for data in (
            b"\r\n",
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1_0\r\n",
            b"1\n",
            b"1\x00\r\n",
            b"1 \r\n",
            b"1 x\r\n",
            b"\xd9\xa1\r\n",
            b"1;\r;\r\n",
            b"1;a\nb\r\n",
            b"1;\x01\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n",
            b"1\r\na0\r\n",
            b"F" * 16 + b"\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"1" * (MAX_CHUNK_LINE_BYTES + 1),
            b"1;" + b"x" * MAX_CHUNK_LINE_BYTES + b"\r\n",
            b"0\r\nA: " + b"x" * MAX_TRAILER_BYTES,
            b"0\r\n" + b"A: b\r\n" * MAX_TRAILER_BYTES,
        ):
            for step in (1, len(data)) if len(data) < 1000 else (len(data),):
                with self.assertRaises((BadRequest, AssertionError), msg=data[:50]) as caught:
                    decode(data, step)
                if isinstance(caught.exception, AssertionError):
                    # A line feed alone never ends a line, so the decoder waits: the bounds on a line and the time do.
                    self.assertIn(data, (b"1\n",))
