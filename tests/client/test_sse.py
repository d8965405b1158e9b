"""Messages out of a stream of Server-Sent Events, however it is cut."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.client.sse import Message, MessageParser

STREAM = (
    b"\xef\xbb\xbf: a comment\r\n\r\nevent: put\r\ndata: {\r\ndata:  1}\r\n\r\n"
    b"id: 7\nevent: progress\ndata: \xc3\xa9\nretry: 5\nunknown\n\n"
    b"data:x\r\rdata\n\nevent: none\n\nid: a\0b\ndata: y\n\n"
)
MESSAGES = [
    Message(event="put", data="{\n 1}", id=None),
    Message(event="progress", data="é", id="7"),
    Message(event="message", data="x", id=None),
    Message(event="message", data="", id=None),
    Message(event="message", data="y", id=None),
]


class MessageTests(SynchronousTestCase):
    """The parser."""

    def test_whole(self) -> None:
        """Lines may end in any of the three ways; comments, unknown fields and messages without data are nothing."""
        self.assertEqual(list(MessageParser().feed(STREAM)), MESSAGES)

    def test_any_cut(self) -> None:
        """However the bytes are cut, the messages are the same."""
        for size in range(1, len(STREAM)):
            parser = MessageParser()
            pieces = [STREAM[begin : begin + size] for begin in range(0, len(STREAM), size)]
            self.assertEqual([message for piece in pieces for message in parser.feed(piece)], MESSAGES, f"{size}")

    def test_bounded(self) -> None:
        """A message that does not end is refused once it is too large; many that end are not."""
        parser = MessageParser(max_bytes=100)
        for _ in range(50):
            self.assertEqual(len(list(parser.feed(b"data: 0123456789\n\n"))), 1)
        list(parser.feed(b"data: " + b"x" * 60 + b"\n"))
        with self.assertRaises(ValueError):
            list(parser.feed(b"data: " + b"x" * 60 + b"\n"))

    def test_no_text(self) -> None:
        """What is not UTF-8 is refused."""
        with self.assertRaises(ValueError):
            list(MessageParser().feed(b"data: \xff\n\n"))
