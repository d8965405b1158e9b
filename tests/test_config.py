"""The configuration: what the settings mean, and what is said about a file that is wrong."""

from __future__ import annotations

import dataclasses
import os
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from raftkv.config import SETTINGS, Address, Limits, NodeConfig, cluster_id_of_peers, load_config, parse_config
from raftkv.errors import ConfigurationError

ORIGINAL = """
rpcAddr: ":8081"
httpAddr: ":8080"
raft:
  nodeID: node1
  bindAddr: "127.0.0.1:8082"
  dataDir: data/node1
  logLevel: warn
  snapshotInterval: 60
  snapshotThreshold: 1048576
  maxSnapshots: 3
"""

CLUSTER = """
raft:
  nodeID: node1
  dataDir: data
  bindAddr: ":7000"
  advertisedAddr: "one.example:7000"
  peers: {node2: "two.example:7000", node1: "one.example:7000"}
"""


def minimal(raft: str = "", top: str = "") -> str:
    """Return a file that is right but for what is added to it, in line 2 or at the end."""
    return f"raft:\n{raft or '  # nothing'}\n  nodeID: n\n  dataDir: d\n{top}"


class DefaultTests(SynchronousTestCase):
    """A file that leaves things out."""

    def test_original_nine_settings(self) -> None:
        """A file with the original nine settings and nothing else describes a cluster of one."""
        config = parse_config(ORIGINAL, "node.yaml")
        self.assertEqual(
            config,
            NodeConfig(
                node_id="node1",
                data_dir="data/node1",
                rpc_addr=Address("", 8081),
                http_addr=Address("", 8080),
                raft_bind_addr=Address("127.0.0.1", 8082),
                log_level="warn",
                snapshot_interval_seconds=60.0,
                snapshot_threshold_bytes=1048576,
                max_snapshots=3,
            ),
        )
        self.assertTrue(config.is_alone)
        self.assertEqual(dict(config.initial_peers()), {"node1": "127.0.0.1:8082"})

    def test_smallest_file(self) -> None:
        """Only the name and the data directory are required; the rest has the documented defaults."""
        config = parse_config("raft: {nodeID: n, dataDir: d}", "node.yaml")
        self.assertEqual(
            [str(config.rpc_addr), str(config.http_addr), str(config.raft_bind_addr), config.raft_advertised_addr],
            ["127.0.0.1:8081", "127.0.0.1:8080", "127.0.0.1:8082", "127.0.0.1:8082"],
        )
        self.assertEqual(
            [config.log_level, config.snapshot_interval_seconds, config.snapshot_threshold_bytes, config.max_snapshots],
            ["info", 30.0, 64 * 1024 * 1024, 5],
        )
        self.assertEqual([config.election_timeout_seconds, config.heartbeat_interval_seconds], [1.0, 0.1])
        self.assertEqual([config.election_ticks, config.tick_interval_seconds], [10, 0.1])

    def test_advertised_addresses(self) -> None:
        """RPC and HTTP are advertised on the host of the Raft address with their own ports."""
        config = parse_config(CLUSTER, "node.yaml")
        self.assertEqual(config.rpc_advertised_addr, "one.example:8081")
        self.assertEqual(config.http_advertised_addr, "one.example:8080")

    def test_advertised_address_alone_on_every_interface(self) -> None:
        """A node alone that listens on every interface advertises the loopback address."""
        config = parse_config('raft: {nodeID: n, dataDir: d, bindAddr: ":7000"}', "node.yaml")
        self.assertEqual(config.raft_advertised_addr, "127.0.0.1:7000")

    def test_advertised_ipv6_address(self) -> None:
        """An IPv6 host keeps its brackets in the addresses that are derived from it."""
        config = parse_config('raft: {nodeID: n, dataDir: d, bindAddr: "[::1]:7000"}', "node.yaml")
        self.assertEqual([config.raft_advertised_addr, config.rpc_advertised_addr], ["[::1]:7000", "[::1]:8081"])

    def test_explicit_advertised_addresses_win(self) -> None:
        """An advertised address that is given is taken as it is."""
        config = parse_config(CLUSTER + 'rpcAdvertisedAddr: "r:1"\nhttpAdvertisedAddr: "h:2"\n', "node.yaml")
        self.assertEqual([config.rpc_advertised_addr, config.http_advertised_addr], ["r:1", "h:2"])

    def test_peers_are_sorted(self) -> None:
        """The order in which a file lists its peers does not matter."""
        self.assertEqual(list(parse_config(CLUSTER, "node.yaml").peers), ["node1", "node2"])

    def test_ticks_of_inexact_quotient(self) -> None:
        """An election timeout of eleven heartbeats is eleven ticks, whatever binary fractions make of it."""
        config = parse_config(minimal("  electionTimeout: 1.1"), "node.yaml")
        self.assertEqual(config.election_ticks, 11)

    def test_dotted_keys(self) -> None:
        """A key may be written in one piece, as the manual writes it."""
        config = parse_config("raft.nodeID: n\nraft.dataDir: d\nlimits.maxKeyBytes: 9", "node.yaml")
        self.assertEqual(config, NodeConfig(node_id="n", data_dir="d", limits=Limits(max_key_bytes=9)))

    def test_leases(self) -> None:
        """Leases are off unless asked for; the bound of the clocks' drift is a share of one."""
        config = parse_config(minimal(), "node.yaml")
        self.assertEqual((config.lease_reads, config.clock_drift_bound), (False, 0.05))
        config = parse_config(minimal("  leaseReads: true\n  clockDriftBound: 0.01"), "node.yaml")
        self.assertEqual((config.lease_reads, config.clock_drift_bound), (True, 0.01))
        for wrong in ("-0.01", "0.6", "five", ".nan", "5%"):
            error = self.assertRaises(
                ConfigurationError, parse_config, minimal(f"  clockDriftBound: {wrong}"), "node.yaml"
            )
            self.assertIn("a number from 0 to 0.5", str(error))

    def test_limits(self) -> None:
        """Every limit has a setting below limits."""
        config = parse_config(minimal(top="limits: {maxKeyBytes: 17, sessionTTL: 2.5}"), "node.yaml")
        self.assertEqual(config.limits, dataclasses.replace(Limits(), max_key_bytes=17, session_ttl_seconds=2.5))


class TableTests(SynchronousTestCase):
    """The table against the dataclasses."""

    def test_every_field_has_a_setting(self) -> None:
        """Every field of the dataclasses can be set, once, and nothing else can."""
        fields = sorted(entry.name for owner in (NodeConfig, Limits) for entry in dataclasses.fields(owner))
        self.assertEqual(sorted([*(setting.field for setting in SETTINGS), "limits"]), fields)

    def test_every_setting_is_documented(self) -> None:
        """Every setting says what it means, and units stand at the fields' names."""
        for setting in SETTINGS:
            self.assertTrue(setting.doc.endswith("."), setting.key)
            if setting.unit:
                self.assertTrue(setting.field.endswith(f"_{setting.unit}"), setting.key)


class MistakeTests(SynchronousTestCase):
    """What is said about a file that is wrong."""

    # What the file says; then the one line that must come out.
    CASES: ClassVar[list[tuple[str, str]]] = [
        ("", "f, line 1: found nothing, expected a mapping of settings"),
        ("- a", "f, line 1: found a list, expected a mapping of settings"),
        ("raft: {nodeID: n", "f, line 1: found expected ',' or '}', but got '<stream end>' while parsing a flow"),
        ("a: b: c", "f, line 1: found mapping values are not allowed here, expected valid YAML"),
        ("\n\tx: y", "f, line 2: found found character '\\t' that cannot start any token"),
        ("raft: {dataDir: d}", "f, line 1: raft.nodeID: found nothing, expected a name of 1 to 128 letters"),
        ("\nraft:\n  nodeID: n", "f, line 3: raft.dataDir: found nothing, expected the path of a directory"),
        ("rpcAddr: ':8081'", "f, line 1: raft.nodeID: found nothing, expected a name of"),
        ("raft: no", "f, line 1: raft: found a boolean no, expected a mapping of settings"),
        (minimal("  nodeId: x"), "f, line 2: raft.nodeId: found an unknown key, expected a known one; did you mean"),
        (minimal("  node_id: x"), "did you mean raft.nodeID?"),
        (minimal("  elektionTimeout: 1"), "did you mean raft.electionTimeout?"),
        (
            minimal(top="dataDir: x"),
            "f, line 5: dataDir: found an unknown key, expected a known one; did you mean raft.d",
        ),
        (
            minimal("  httpAddr: ':1'"),
            "raft.httpAddr: found an unknown key, expected a known one; did you mean httpAddr?",
        ),
        (
            minimal("  logLevel: info", top="raft.logLevel: info"),
            "f, line 5: raft.logLevel: found it again, expected it",
        ),
        (minimal(top="zzzzzzzz: 1"), "zzzzzzzz: found an unknown key, expected one of history, httpAccessLog,"),
        (minimal(top="? [a, b]\n: 1"), "a list: found an unknown key"),
        (minimal("  nodeID: m"), "f, line 3: raft.nodeID: found it again, expected it once; it first stands in line 2"),
        (minimal(top="raft: {}"), "f, line 5: raft: found it again, expected it once; it first stands in line 1"),
        (minimal("  logLevel: loud"), "raft.logLevel: found text 'loud', expected one of debug, info, warn, error"),
        (minimal("  maxSnapshots: 0"), "raft.maxSnapshots: found a number 0, expected a whole number from 1 to 1000"),
        (minimal("  maxSnapshots: 2.0"), "raft.maxSnapshots: found a number 2.0, expected a whole number"),
        (minimal("  maxSnapshots: '2'"), "raft.maxSnapshots: found text '2', expected a whole number"),
        (minimal("  maxSnapshots: true"), "raft.maxSnapshots: found a boolean true, expected a whole number"),
        (minimal("  maxSnapshots: 010"), "raft.maxSnapshots: found a number 010, expected a whole number"),
        (minimal("  maxSnapshots:"), "raft.maxSnapshots: found nothing, expected a whole number"),
        (minimal("  maxSnapshots: [1]"), "raft.maxSnapshots: found a list, expected a whole number"),
        (minimal("  maxSnapshots: " + "9" * 5000), "expected a whole number from 1 to 1000"),
        (
            minimal("  snapshotInterval: .nan"),
            "raft.snapshotInterval: found a number .nan, expected a number of seconds",
        ),
        (
            minimal("  snapshotInterval: .inf"),
            "raft.snapshotInterval: found a number .inf, expected a number of seconds",
        ),
        (minimal("  snapshotInterval: -1"), "raft.snapshotInterval: found a number -1, expected a number of seconds"),
        (minimal("  snapshotInterval: '3'"), "raft.snapshotInterval: found text '3', expected a number of seconds"),
        (
            minimal("  snapshotInterval: yes"),
            "raft.snapshotInterval: found a boolean yes, expected a number of seconds",
        ),
        (minimal("  snapshotInterval: 1:30"), "raft.snapshotInterval: found a number 1:30, expected a number of"),
        (minimal(top="httpAccessLog: 1"), "httpAccessLog: found a number 1, expected true or false"),
        (minimal(top="httpAddr: 8080"), "httpAddr: found a number 8080, expected host:port, or :port for every"),
        (minimal(top="httpAddr: ':0'"), "httpAddr: found text ':0', expected host:port"),
        (minimal(top="httpAddr: 'x:65536'"), "httpAddr: found text 'x:65536', expected host:port"),
        (minimal(top="httpAddr: 'a b:1'"), "httpAddr: found text 'a b:1', expected host:port"),
        (minimal(top="httpAddr: 'http://x:1'"), "httpAddr: found text 'http://x:1', expected host:port"),
        (minimal(top="httpAddr: '::1:80'"), "httpAddr: found text '::1:80', expected host:port"),
        (
            minimal(top="httpAdvertisedAddr: ':1'"),
            "httpAdvertisedAddr: found text ':1', expected host:port that others",
        ),
        (minimal(top="httpAdvertisedAddr: '0.0.0.0:1'"), "httpAdvertisedAddr: found text '0.0.0.0:1', expected host"),
        (
            minimal(top="httpAddr: ':8081'"),
            "httpAddr: found text ':8081', expected another address than that of rpcAddr",
        ),
        (
            minimal("  bindAddr: ':8080'"),
            "raft.bindAddr: found text ':8080', expected another address than that of http",
        ),
        (minimal("  peers: [a]"), "raft.peers: found a list, expected a mapping from node id to host:port"),
        (minimal("  peers: {}"), "raft.peers: found a mapping, expected a mapping from node id to host:port"),
        (minimal("  peers: {x: 'h:1'}"), "raft.peers: found a mapping, expected an entry for this node, n"),
        (minimal("  peers: {n: 'h'}"), "raft.peers.n: found text 'h', expected host:port that others can connect to"),
        (minimal("  peers: {n: 'h:1', n: 'h:2'}"), "raft.peers.n: found text 'n', expected each node id once"),
        (minimal("  peers: {n: 'h:1', m: 'h:1'}"), "raft.peers.m: found text 'h:1', expected an address of its own"),
        (minimal("  peers: {'a b': 'h:1'}"), "raft.peers: found text 'a b', expected a name of 1 to 128 letters"),
        (minimal("  join: 'h:1'"), "raft.join: found text 'h:1', expected a list of host:port"),
        (minimal("  join: ['h:1', 2]"), "raft.join.1: found a number 2, expected host:port that others can connect to"),
        (
            minimal("  join: ['h:1']\n  peers: {n: 'h:1'}"),
            "raft.join: found a list, expected either raft.peers or raft.join, not both",
        ),
        (
            minimal("  bindAddr: ':7000'\n  peers: {n: 'h:1', m: 'h:2'}"),
            "raft.advertisedAddr: found nothing, expected the address that other nodes use for this one, as",
        ),
        (
            minimal("  bindAddr: '0.0.0.0:7000'\n  join: ['h:1']"),
            "raft.advertisedAddr: found nothing, expected the address that other nodes use for this one, as",
        ),
        (
            minimal("  electionTimeout: 0.4"),
            "f, line 2: raft.electionTimeout: found a number 0.4, expected raft.electionTimeout (0.4) to be at least 5 "
            "times raft.heartbeatInterval (0.1)",
        ),
        (
            minimal("  heartbeatInterval: 0.3"),
            "f, line 2: raft.heartbeatInterval: found a number 0.3, expected raft.el",
        ),
        (minimal("  nodeID: 'a/b'").replace("nodeID: n", "#"), "raft.nodeID: found text 'a/b', expected a name"),
        (minimal("  nodeID: 1").replace("nodeID: n", "#"), "raft.nodeID: found a number 1, expected a name"),
        (
            minimal('  dataDir: "a\\nb"').replace("dataDir: d", "#"),
            "raft.dataDir: found text 'a\\nb', expected the path",
        ),
        (
            minimal(top="limits: {leaderWait: 9}"),
            "limits.leaderWait: found a number 9, expected limits.leaderWait (9) to",
        ),
        (minimal(top="limits: {maxBodyBytes: 2048}"), "limits.maxBodyBytes: found a number 2048, expected limits.max"),
        (minimal(top="limits: {requestTimeout: 1}"), "limits.requestTimeout: found a number 1, expected limits.leader"),
        (minimal(top="limits: {foo: 1}"), "limits.foo: found an unknown key, expected"),
        (minimal(top="<<: {rpcAddr: ':1'}"), "<<: found an unknown key"),
        ("a: !!python/object:os.system {}", "a: found an unknown key"),
    ]

    def test_mistakes(self) -> None:
        """Each mistake is one line with file, line, key, what was found and what was expected."""
        for text, expected in self.CASES:
            message = str(self.assertRaises(ConfigurationError, parse_config, text, "f"))
            self.assertIn(expected, message, f"for {text!r}")
            self.assertNotIn("\n", message)
            self.assertLess(len(message), 400)

    def test_not_text(self) -> None:
        """A file that is not UTF-8 is refused in one line."""
        for data in (b"\xff\xfe\x00", b"raft: \x00", b"a: \xc3\x28"):
            message = str(self.assertRaises(ConfigurationError, parse_config, data, "f"))
            self.assertRegex(message, r"\Af: found [^\n]*, expected valid YAML in UTF-8\Z")

    def test_deep_nesting(self) -> None:
        """A file that nests without end is refused like any other wrong file."""
        self.assertRaises(ConfigurationError, parse_config, "[" * 100_000, "f")

    def test_alias_of_itself(self) -> None:
        """A file whose aliases go round in a circle is refused like any other wrong file."""
        self.assertRaises(ConfigurationError, parse_config, "raft: &a {raft: *a}", "f")

    def test_unreadable_file(self) -> None:
        """A file that is missing or is a directory is named with the reason."""
        folder = self.mktemp()
        os.mkdir(folder)
        missing = str(self.assertRaises(ConfigurationError, load_config, f"{folder}/none.yaml"))
        self.assertEqual(missing, f"{folder}/none.yaml: the configuration cannot be read: No such file or directory")
        self.assertIn("Is a directory", str(self.assertRaises(ConfigurationError, load_config, folder)))


class ClusterIdTests(SynchronousTestCase):
    """The id that the members of a new cluster agree on without asking."""

    def test_same_for_the_same_peers(self) -> None:
        """The id is the same whatever the order of the peers, and part of what a cluster remembers, so it is pinned."""
        self.assertEqual(cluster_id_of_peers({"a": "h:1", "b": "h:2"}), cluster_id_of_peers({"b": "h:2", "a": "h:1"}))
        self.assertEqual(cluster_id_of_peers({"a": "h:1", "b": "h:2"}), "a4231ce3fee026844b6496628b2b78c9")

    def test_other_for_other_peers(self) -> None:
        """Another name or address makes another cluster."""
        ids = [cluster_id_of_peers(peers) for peers in ({"a": "h:1"}, {"b": "h:1"}, {"a": "h:2"}, {})]
        self.assertEqual(len(set(ids)), 4)


class AddressTests(SynchronousTestCase):
    """Addresses in their several spellings."""

    def test_round_trip(self) -> None:
        """An address is written as it is read."""
        for text in (":8081", "localhost:1", "10.0.0.1:65535", "[::1]:80", "[fe80::1%eth0]:80", "a-b.example.:2"):
            self.assertEqual(str(Address.parse(text)), text)

    def test_loopback_and_wildcard(self) -> None:
        """The addresses that only this machine, or everybody, can reach are recognised."""
        loopback = ["localhost:1", "127.8.8.8:1", "[::1]:1", "127.x:1", "h:1", ":1"]
        self.assertEqual([Address.parse(t).is_loopback for t in loopback], [True, True, True, False, False, False])
        wildcard = [":1", "0.0.0.0:1", "[::]:1", "127.0.0.1:1"]
        self.assertEqual([Address.parse(t).is_wildcard for t in wildcard], [True, True, True, False])
