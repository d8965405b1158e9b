"""The loops against a server that is ours: what counts, what is outstanding, what becomes of errors and of losses."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import msgpack
from twisted.trial.unittest import SynchronousTestCase

from raftkv.bench import closed, evenpace
from raftkv.bench.closed import CONNECTION_LOST
from raftkv.bench.conversations import NotUnderstood
from raftkv.bench.figures import Measured
from raftkv.bench.overseer import Silent
from raftkv.bench.specification import Load

Answer = Callable[["Server", int, tuple[object, ...]], object]


def good(_server: Server, number: int, message: tuple[object, ...]) -> object:
    """Answer as a node does to whom nothing is wrong."""
    return (20, number, [[0, 7]]) if message[0] == 2 else (20, number, [[b"v", 1, 1, 1, 0]])


class Server:
    """A node as far as a load sees it: connections in threads, each with one read at a time.

    :param answer: makes the answer to a request; ``None`` closes the connection.
    :ivar most: requests that came with one read, at the most.
    :ivar requests: all that came, in order.
    """

    def __init__(self, answer: Answer = good) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections: list[socket.socket] = []
        self.requests: list[tuple[object, ...]] = []
        self.most = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(made)
            threading.Thread(target=self._serve, args=(made,), daemon=True).start()

    def _serve(self, made: socket.socket) -> None:
        unpacker = msgpack.Unpacker(use_list=False)
        try:
            while data := made.recv(65536):
                unpacker.feed(data)
                asked = [each for each in unpacker if each != 10 and each[0] != 0]
                self.most = max(self.most, len(asked))
                for message in asked:
                    self.requests.append(message)
                    told = self._answer(self, message[1], message)
                    if told is None:
                        made.shutdown(socket.SHUT_RDWR)
                        return
                    made.sendall(msgpack.packb(told) + b"\n")
        except OSError:
            return  # the load has ended
        finally:
            made.close()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class ParsimoniousServer(Server):
    """A web server that says with every tenth answer of a connection that it is the last one, and then closes."""

    def _serve(self, made: socket.socket) -> None:
        count, data = 0, b""
        try:
            while count < 10 and (read := made.recv(65536)):
                *heads, data = (data + read).split(b"\r\n\r\n")
                for head in heads:
                    self.requests.append((head,))
                    count += 1
                    last = b"Connection: close\r\n" if count == 10 else b""
                    made.sendall(b"HTTP/1.1 200 OK\r\n" + last + b"Content-Length: 2\r\n\r\n{}")
        except OSError:
            return  # the load has ended
        finally:
            made.close()


class LoopTestCase(SynchronousTestCase):
    """Loads of counted requests."""

    def serve(self, answer: Answer = good) -> Server:
        """Return a server that ends with the test."""
        server = Server(answer)
        self.addCleanup(server.close)
        return server

    def run_load(self, server: Server, **more: object) -> Measured:
        """Run a load to its end."""
        values: dict[str, Any] = {
            "generator": "closed",
            "protocol": "rpc",
            "addresses": (server.address,),
            "requests": 100,
            "keys": 10,
            "outstanding": 8,
            "prefix": "p/",
            "reconnects": True,
            **more,
        }
        load = Load(**values)
        begun: list[bool] = []
        run = evenpace.run if load.rate else closed.run
        measured = run(load, Silent(lambda: begun.append(True)))
        self.assertEqual(begun, [True])
        return measured


class ClosedTests(LoopTestCase):
    """So many outstanding."""

    def test_all_are_answered(self) -> None:
        """As many requests as were asked for are made and measured, never more at once than outstanding."""
        server = self.serve()
        measured = self.run_load(server, connections=3)
        self.assertEqual((len(measured.latencies), len(server.requests), measured.errors), (100, 100, {}))
        self.assertEqual(len(server.connections), 3)
        self.assertLessEqual(server.most, 3)  # eight on three connections
        self.assertTrue(all(latency > 0 for latency in measured.latencies))

    def test_mixed(self) -> None:
        """A mixed load asks for reads and writes, and both count."""
        server = self.serve()
        measured = self.run_load(server, operation="mixed", reads=0.75)
        kinds = [message[0] for message in server.requests]
        self.assertEqual((kinds.count(3), kinds.count(2), len(measured.latencies)), (75, 25, 100))

    def test_errors_have_codes(self) -> None:
        """A refused request is counted by its code, makes room for the next one, and has no latency."""
        server = self.serve(
            lambda server, number, message: (
                (21, number, "overloaded", "", "not_applied", {}) if number % 10 == 3 else good(server, number, message)
            )
        )
        measured = self.run_load(server)
        self.assertEqual((len(measured.latencies), measured.errors), (90, {"overloaded": 10}))

    def test_lost_connection(self) -> None:
        """What was under way on a lost connection has failed, and the load goes on with a new one."""

        def once(server: Server, number: int, message: tuple[object, ...]) -> object:
            return None if len(server.requests) == 50 else good(server, number, message)

        server = self.serve(once)
        measured = self.run_load(server)
        lost = measured.errors[CONNECTION_LOST]
        self.assertEqual(len(server.connections), 2)
        self.assertTrue(1 <= lost <= 8, lost)
        self.assertEqual(len(measured.latencies) + lost, 100)

    def test_turns_to_others(self) -> None:
        """Where the node is gone for good, another one is asked."""
        other = self.serve()

        def never_again(server: Server, number: int, message: tuple[object, ...]) -> object:
            server.close()

        first = Server(never_again)
        measured = self.run_load(first, others=(other.address,))
        self.assertEqual(len(measured.latencies) + sum(measured.errors.values()), 100)
        self.assertGreaterEqual(len(other.requests), 92)

    def test_a_last_answer(self) -> None:
        """Where a web server says that an answer is its last one there, the next request goes on another connection."""
        server = ParsimoniousServer()
        self.addCleanup(server.close)
        measured = self.run_load(server, protocol="http", operation="get", connections=8)
        self.assertEqual((len(measured.latencies), len(server.requests), measured.errors), (100, 100, {}))
        self.assertGreaterEqual(len(server.connections), 10)

    def test_an_outage_at_the_end(self) -> None:
        """What was asked for in time and fails after the end is an error; what succeeds then is nothing."""

        def late(server: Server, number: int, message: tuple[object, ...]) -> object:
            if number == 0:
                time.sleep(0.5)  # the server is a thread of its own, and late for a load of 0.1 s
            return (21, number, "no_leader", "", "not_applied", {}) if number < 3 else good(server, number, message)

        server = self.serve(late)
        measured = self.run_load(server, requests=0, seconds=0.1, warmup_seconds=0.0, outstanding=4)
        self.assertEqual((len(measured.latencies), measured.errors), (0, {"no_leader": 3}))

    def test_a_comparison_ends(self) -> None:
        """A load that does not reconnect ends with the connection, so that no figure hides it."""
        server = self.serve(lambda *_: None)
        load = Load(generator="closed", protocol="rpc", addresses=(server.address,), requests=5)
        self.assertRaises(ConnectionError, closed.run, load, Silent(lambda: None))

    def test_strangers(self) -> None:
        """What does not speak the protocol, or refuses it, is named."""
        for told in ("no protocol of ours", (1, "refused: no room")):
            server = self.serve(lambda *_, told=told: told)
            load = Load(generator="closed", protocol="rpc", addresses=(server.address,), requests=5, reconnects=True)
            self.assertRaises(NotUnderstood, closed.run, load, Silent(lambda: None))


class EvenPaceTests(LoopTestCase):
    """A rate."""

    def test_all_are_sent(self) -> None:
        """All requests are made, spread over the connections."""
        server = self.serve()
        measured = self.run_load(server, rate=20_000.0, connections=2)
        self.assertEqual((len(measured.latencies), len(server.requests), measured.errors), (100, 100, {}))
        self.assertEqual(len(server.connections), 2)

    def test_a_stall_is_not_hidden(self) -> None:
        """While a server stalls requests are due all the same: each of them is late, and not one alone."""
        go = threading.Event()

        def stall(server: Server, number: int, message: tuple[object, ...]) -> object:
            if number == 10:
                go.wait(0.3)
            return good(server, number, message)

        latencies = self.run_load(self.serve(stall), rate=200.0, requests=40, outstanding=1).latencies
        # Due every 5 ms: the one that stalls has 300 ms, the next one 295 and so on; in a closed loop it would be one.
        self.assertGreater(sum(latency > 0.15 for latency in latencies), 20)

    def test_a_stall_at_the_end_is_not_hidden(self) -> None:
        """What was due in time and answered after the end counts with its latency from when it was due."""

        def stall(server: Server, number: int, message: tuple[object, ...]) -> object:
            if number == 20:
                time.sleep(0.5)  # likewise, for one of 0.4 s that has had 0.1
            return good(server, number, message)

        load = {"requests": 0, "seconds": 0.4, "warmup_seconds": 0.0, "rate": 200.0, "outstanding": 1000}
        latencies = self.run_load(self.serve(stall), **load).latencies
        self.assertGreater(sum(latency > 0.15 for latency in latencies), 20)

    def test_mixed_errors(self) -> None:
        """Errors are counted, and are not sent again."""

        def refuse(_server: Server, number: int, _message: tuple[object, ...]) -> object:
            return 21, number, "no_leader", "", "not_applied", {}

        measured = self.run_load(self.serve(refuse), rate=20_000.0)
        self.assertEqual((measured.latencies, measured.errors), ([], {"no_leader": 100}))
