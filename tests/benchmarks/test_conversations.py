"""The protocols of the generators, against bytes: what is asked, and what counts as answered."""

from __future__ import annotations

import random
import struct

import msgpack
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.load import wrk
from benchmarks.load.conversations import conversation
from benchmarks.load.doors import request
from benchmarks.load.grpc import LATER_HEADERS, body, frame
from benchmarks.peers import Etcd, RaftKV
from benchmarks.works import WORKS
from raftkv.bench.conversations import Conversation
from raftkv.bench.specification import Load


def load(protocol: str, operation: str = "put", value_bytes: int = 4, door: str = "") -> Load:
    """Return a small load."""
    return Load(
        generator="closed",
        protocol=protocol,
        addresses=("127.0.0.1:1",),
        operation=operation,
        value_bytes=value_bytes,
        door=door,
    )


def heard(talk: Conversation, data: bytes, seed: int = 1) -> tuple[list[int], list[int], bytes]:
    """Let a conversation hear bytes in pieces of any size; return all that came of it."""
    chance = random.Random(seed)
    good: list[int] = []
    bad: list[int] = []
    replies = b""
    while data:
        size = chance.randint(1, 9)
        more_good, more_bad, reply = talk.hear(data[:size])
        data = data[size:]
        good += more_good
        bad += more_bad
        replies += reply
    return good, bad, replies


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Take HTTP/2 frames apart: type, flags, stream, payload."""
    found = []
    while data:
        high, low, kind, flags, stream = struct.unpack_from(">BHBBI", data)
        size = high << 16 | low
        found.append((kind, flags, stream, data[9 : 9 + size]))
        data = data[9 + size :]
    return found


class RpcTests(SynchronousTestCase):
    """raftkv's own protocol."""

    def test_put(self) -> None:
        """A request for each key, numbered in order; results and errors are told apart."""
        talk = conversation(load("rpc"))
        unpacker = msgpack.Unpacker(use_list=False)
        unpacker.feed(talk.ask([b"a", b"b", b"c"]))
        messages = [message for message in unpacker if message != 10]
        self.assertEqual(
            [(m[0], m[1], m[2][0][2:]) for m in messages],
            [(2, n, (k, b"vvvv")) for n, k in enumerate((b"a", b"b", b"c"))],
        )
        answers = [(0, "raftkv"), (20, 1, [[0, 7]]), (21, 0, "overloaded", "", "not_applied", {}), (20, 2, [[1, 7]])]
        data = b"".join(msgpack.packb(answer) + b"\n" for answer in answers)
        self.assertEqual(heard(talk, data), ([1], [0, 2], b""))

    def test_get(self) -> None:
        """A key that is not there is an error: the work says that all keys are."""
        talk = conversation(load("rpc", "get"))
        talk.ask([b"a", b"b"])
        data = b"".join(msgpack.packb(answer) + b"\n" for answer in ((20, 0, [None]), (20, 1, [[b"v", 1, 1, 1, 0]])))
        self.assertEqual(heard(talk, data), ([1], [0], b""))


class RespTests(SynchronousTestCase):
    """Redis' protocol."""

    def test_put(self) -> None:
        """Answers come in order, and an error is one."""
        talk = conversation(load("resp"))
        self.assertEqual(talk.ask([b"k"]), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\nvvvv\r\n")
        talk.ask([b"k"])
        self.assertEqual(heard(talk, b"+OK\r\n-ERR full\r\n"), ([0], [1], b""))

    def test_get(self) -> None:
        """Values may hold line ends; a missing key is an error."""
        talk = conversation(load("resp", "get"))
        talk.ask([b"k"] * 3)
        self.assertEqual(heard(talk, b"$4\r\na\r\nb\r\n$-1\r\n$0\r\n\r\n"), ([0, 2], [1], b""))


class HttpTests(SynchronousTestCase):
    """HTTP by our own loop."""

    def test_answers(self) -> None:
        """Each answer is one, wherever it is cut, and only 2xx is a success."""
        talk = conversation(load("http", door="PUT /v1/kv/"))
        talk.ask([b"k"] * 3)
        data = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
        self.assertEqual(heard(talk, data + data[:43]), ([0, 2], [1], b""))

    def test_every_door(self) -> None:
        """Every interface has a request for every work that it takes part in, which wrk's script holds as well."""
        for work in WORKS:
            for peer in (RaftKV(), Etcd()):
                for door in peer.doors(work) if work.kind == "http" else ():
                    made = load("http", work.operation, 256, door)
                    text = request(made, b"key0000001").to_bytes()
                    self.assertIn(request(made, made.key(0)).path, wrk.script(made))
                    self.assertIn(b"Content-Length: ", text)

    def test_no_such_door(self) -> None:
        """An interface that there is not is an error."""
        self.assertRaises(ValueError, request, load("http", door="window"), b"k")


class GrpcTests(SynchronousTestCase):
    """etcd's protocol."""

    def begun(self, operation: str = "put", value_bytes: int = 4) -> Conversation:
        """Return a conversation whose server has sent its settings: 65,535 bytes for a stream."""
        talk = conversation(load("grpc", operation, value_bytes))
        self.assertTrue(talk.greeting().startswith(b"PRI * HTTP/2.0"))
        self.assertEqual(talk.hear(frame(4, 0, 0, b"")), ([], [], frame(4, 1, 0, b"")))
        return talk

    def test_bodies(self) -> None:
        """Keys and values are fields 1 and 2 of a PutRequest; a stale read is serializable, field 7."""
        self.assertEqual(body("put", b"k", b"v" * 200), b"\x0a\x01k\x12\xc8\x01" + b"v" * 200)
        self.assertEqual((body("get", b"k", b""), body("get-stale", b"k", b"")), (b"\x0a\x01k", b"\x0a\x01k\x38\x01"))

    def test_streams(self) -> None:
        """Each request is a stream of its own, and only the first has its headers in full."""
        first, data, later, _ = frames(self.begun().ask([b"a", b"b"]))
        self.assertEqual((first[:3], later), ((1, 4, 1), (1, 4, 3, LATER_HEADERS)))
        self.assertIn(b"/etcdserverpb.KV/Put", first[3])
        self.assertEqual(data, (0, 1, 1, b"\0\0\0\0\x09" + body("put", b"a", b"vvvv")))

    def test_answers(self) -> None:
        """A stream with a message has succeeded; one with trailers alone, or that was reset, has failed."""
        talk = self.begun()
        talk.ask([b"a", b"b", b"c"])
        message = frame(1, 4, 1, b"\x88") + frame(0, 0, 1, b"\0\0\0\0\0") + frame(1, 5, 1, b"")
        data = message + frame(1, 5, 3, b"\x88") + frame(3, 0, 5, b"\0\0\0\x08") + frame(6, 0, 0, b"12345678")
        self.assertEqual(heard(talk, data), ([0], [1, 2], frame(6, 1, 0, b"12345678")))

    def test_windows(self) -> None:
        """No more is sent than the other side takes, on connection and stream; the rest follows when it may."""
        talk = self.begun(value_bytes=70_000)
        sent = frames(talk.ask([b"a"]))
        self.assertEqual(sum(len(payload) for kind, _, _, payload in sent if kind == 0), 65_535)
        self.assertTrue(all(len(payload) <= 16_384 for _, _, _, payload in sent))
        _, _, reply = talk.hear(frame(8, 0, 0, struct.pack(">I", 100_000)))
        self.assertEqual(reply, b"")  # the stream's own window is still full
        _, _, reply = talk.hear(frame(8, 0, 1, struct.pack(">I", 100_000)))
        rest = frames(reply)
        whole = b"".join(payload for kind, _, _, payload in sent + rest if kind == 0)
        self.assertEqual(whole[5:], body("put", b"a", b"v" * 70_000))
        self.assertEqual(rest[-1][1], 1)

    def test_others_wait_behind(self) -> None:
        """A request behind one that waits for room is sent after it, once."""
        talk = self.begun(value_bytes=60_000)
        sent = frames(talk.ask([b"a", b"b"]))
        _, _, reply = talk.hear(frame(8, 0, 0, struct.pack(">I", 2**20)))
        sent += frames(reply)
        for stream, key in ((1, b"a"), (3, b"b")):
            payloads = [payload for kind, _, which, payload in sent if kind == 0 and which == stream]
            self.assertEqual(b"".join(payloads)[5:], body("put", key, b"v" * 60_000))
