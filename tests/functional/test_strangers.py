"""What reaches the ports of a real cluster without being part of it."""

from __future__ import annotations

import contextlib
import os
import socket

import msgpack

from tests.functional.processes import FunctionalTestCase, free_port


def say(port: int, data: bytes, limit_seconds: float = 15) -> bytes:
    """Send bytes to a port, and return what comes back before the other side closes."""
    received = b""
    address = ("127.0.0.1", port)
    with socket.create_connection(address, timeout=limit_seconds) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        while chunk := connection.recv(65536):
            received += chunk
    return received


class StrangerTests(FunctionalTestCase):
    """Garbage, giants and foreigners."""

    def test_garbage_on_the_msgpack_ports(self) -> None:
        """Whatever is said there closes that connection, is logged in bounded number, and the cluster goes on."""
        nodes = self.make_cluster()
        node = nodes[0]
        hello = msgpack.packb((0, "raftkv", 1, 1, "raft", "f" * 32, "stranger", "e" * 32, "h:1", "h:2", "h:3")) + b"\n"
        offers = [
            os.urandom(4096),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\xc6\xff\xff\xff\xff" + bytes(1000),  # a byte string that would have 4 GiB
            b"\xdd\xff\xff\xff\xff" * 1000,  # arrays of 4 billion elements in each other
            msgpack.packb({"a": 1}) + b"\n",
            msgpack.packb(list(range(5))) + b"x",
            hello,  # well-formed, of another cluster
        ]
        for port in (node.raft_port, node.rpc_port):
            for offer in offers:
                say(port, offer)
        for each in nodes:
            self.assertEqual(each.set("k", each.name).status, 200)
            self.assertTrue(each.is_running)
            self.assertNotIn("Traceback", each.log())
        self.assertLess(len(node.log().splitlines()), 100)
        self.assertEqual(len({each.status()["term"] for each in nodes}), 1)

    def test_garbage_on_the_http_port(self) -> None:
        """A request that cannot be parsed closes its connection, and one that is wrong gets its 4xx (B70)."""
        node = self.make_node(limits={"headerTimeout": 1, "maxHeaderBytes": 4096})
        node.start()
        self.wait_ready(node)
        say(node.http_port, os.urandom(4096))
        self.assertIn(b" 400 ", say(node.http_port, b"POST /set HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"))
        say(node.http_port, b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000)
        say(node.http_port, b"GET /get?key=")  # never goes on: the time limit ends it
        self.assertEqual(node.request("POST", "/set", b"{").status, 400)
        self.assertEqual(node.request("POST", "/set", {"key": "k"}).status, 400)
        self.assertEqual(node.request("PUT", "/v1/kv/k", b"x" * 1_048_577).status, 413)
        self.assertEqual(node.request("GET", "/nowhere").status, 404)
        self.assertEqual(node.request("POST", "/get").status, 405)
        self.assertEqual(node.set("k", "v").status, 200)
        self.assertNotIn("Traceback", node.log())

    def test_node_of_another_cluster(self) -> None:
        """A node that believes in another cluster at our addresses neither joins nor disturbs."""
        nodes = self.make_cluster()
        term = nodes[0].status()["term"]
        ours = nodes[0].settings["raft"]["peers"]
        stranger = self.make_node("n4", peers={**ours, "n4": f"127.0.0.1:{free_port()}"})
        stranger.start()
        self.wait_until(lambda: stranger.status(), "the stranger to answer")
        self.wait_until(lambda: "refuse" in stranger.log() or "cluster" in stranger.log(), "the refusal to be logged")
        self.assertEqual(nodes[1].set("k", "v").status, 200)
        self.assertEqual(nodes[0].status()["term"], term)
        self.assertEqual(stranger.request("GET", "/health/ready").status, 503)
