"""Real nodes come and go: a cluster grows under load, loses its leader for good, and is joined by fresh nodes."""

from __future__ import annotations

import http.client
import signal
import time
from typing import Any

from tests.functional.load import Load, Register
from tests.functional.processes import Node, free_port, sleep
from tests.functional.test_cluster import ClusterTestCase


class MembershipTestCase(ClusterTestCase):
    """What the tests below share."""

    def join(self, name: str, *members: Node) -> Node:
        """Start a fresh node that joins through the RPC ports of others."""
        node = self.make_node(name, join=[f"127.0.0.1:{member.rpc_port}" for member in members])
        node.start()
        return node

    def members(self, node: Node) -> dict[str, dict[str, Any]]:
        """Return the members as a node tells of them, by id."""
        return {member["id"]: member for member in node.request("GET", "/v1/cluster").json["members"]}

    def wait_voters(self, node: Node, *names: str) -> None:
        """Wait until exactly these are voters, and nobody is on the way."""

        def settled() -> bool:
            members = self.members(node)
            roles = {(member["role"], member["promoting"]) for member in members.values()}
            return members.keys() == set(names) and roles == {("voter", False)}

        self.wait_until(settled, f"{names} to be the voters")

    def wait_removed(self, node: Node) -> None:
        """Wait until a node knows that it was removed."""
        self.wait_until(lambda: (node.status() or {}).get("role") == "removed", f"{node.name} to know")


class GrowthTests(MembershipTestCase):
    """A cluster of one becomes one of five."""

    async def test_grow_replace_the_leader(self) -> None:
        """1, 3, 5 nodes under load; the leader is removed; a fresh node joins: nothing acknowledged is lost."""
        first = self.make_node("n1")
        first.start()
        self.wait_ready(first)
        nodes = [first]
        load = Load(nodes)
        await sleep(0.5)
        for group in (("n2", "n3"), ("n4", "n5")):
            nodes += [self.join(name, first) for name in group]
            await self.until_voters(first, nodes)
            await sleep(0.5)
        leader = self.leader(nodes)
        rest = [node for node in nodes if node is not leader]
        asked = time.monotonic()
        answer = rest[0].request("DELETE", f"/v1/cluster/members/{leader.name}")
        self.assertEqual(answer.status, 200, answer.body)
        took = time.monotonic() - asked
        await sleep(1)
        self.wait_removed(leader)
        refused = leader.request("GET", "/get?key=k")
        self.assertEqual((refused.status, refused.json["error"]["code"]), (503, "removed"))
        fresh = self.join("n6", *rest)
        nodes = [*rest, fresh]
        await self.until_voters(rest[0], nodes)
        await load.stop()
        print(
            f"\n      membership under load: {len(load.acknowledged)} acknowledged, {load.failed} failed; "
            f"removing the leader took {took:.2f} s ",
            end="",
        )
        for node in nodes:
            await self.verify(node, load)
        self.assert_same_state(nodes)
        self.assertEqual(leader.stop(), 0)
        again = self.run_twistd("-n", "raftkv", "--config", leader.path.name)
        self.assert_refused(again, "was removed from cluster", "raft.join")

    async def until_voters(self, node: Node, nodes: list[Node]) -> None:
        """Let the load go on until all these are voters."""
        give_up = time.monotonic() + 40
        while True:
            members = self.members(node)
            voters = {name for name, member in members.items() if member["role"] == "voter"}
            if voters == {each.name for each in nodes} == members.keys():
                return
            if time.monotonic() > give_up:
                self.fail(f"{members}\n{self.logs()}")
            await sleep(0.1)


class ChurnTests(MembershipTestCase):
    """Every node is replaced while others are killed and paused."""

    async def test_replace_everybody(self) -> None:
        """Three nodes are replaced one by one under load: the leader is killed while one joins, a member is paused
        while the next one does, and the leader is killed while another is removed. Nothing that was acknowledged is
        lost, and no read goes back (B23)."""
        nodes = self.make_cluster()
        load = Load(nodes, writers=4)
        register = Register(lambda: nodes)
        for number, old in enumerate(list(nodes), 4):
            await sleep(0.5)
            fresh = self.join(f"n{number}", *nodes)
            await self.disturb(number, fresh, nodes)
            await self.until(lambda fresh=fresh: self.role(nodes, fresh.name) == "voter", f"{fresh.name} to vote")
            nodes.append(fresh)
            leader = self.leader(nodes)
            removal = self.remove(nodes, old)
            if number == 6 and leader is not old:
                leader.kill()
            await self.until(removal, f"{old.name} to be removed")
            nodes.remove(old)
            if not leader.is_running:
                leader.start()
                self.wait_ready(leader)
            self.assertEqual(old.stop(), 0, old.log())
        await load.stop()
        await register.stop()
        print(
            f"\n      three nodes replaced under load, kills and a pause: {len(load.acknowledged)} acknowledged, "
            f"{load.failed} failed, {register.reads} reads in order ",
            end="",
        )
        self.assertEqual(register.wrong, [])
        self.assertGreater(register.reads, 50)
        self.wait_voters(nodes[0], "n4", "n5", "n6")
        for node in nodes:
            await self.verify(node, load)
        self.assert_same_state(nodes)

    async def disturb(self, number: int, fresh: Node, nodes: list[Node]) -> None:
        """Do something bad while a node joins."""
        await self.until(lambda: self.role(nodes, fresh.name) is not None, f"{fresh.name} to be a member")
        leader = self.leader(nodes)
        if number == 4:
            leader.kill()
            await sleep(1.5)
            leader.start()
            self.wait_ready(leader)
        elif number == 5:
            victim = next(node for node in nodes if node is not leader)
            victim.signal(signal.SIGSTOP)
            await sleep(1.5)
            victim.signal(signal.SIGCONT)

    def role(self, nodes: list[Node], name: str) -> str | None:
        """Return the role of a member as some node tells of it; ``None`` for a stranger, and where nobody answers."""
        for node in nodes:
            try:
                member = self.members(node).get(name)
            except (OSError, http.client.HTTPException, KeyError, TypeError):
                continue
            if member is not None:
                return str(member["role"])
        return None

    def remove(self, nodes: list[Node], old: Node) -> Any:
        """Return what asks for a removal, until it is done: the answer to an earlier request may have been lost."""
        others = [node for node in nodes if node is not old]

        def is_removed() -> bool:
            for node in others:
                try:
                    answer = node.request("DELETE", f"/v1/cluster/members/{old.name}", limit=3)
                except (OSError, http.client.HTTPException):
                    continue
                return answer.status in (200, 404)
            return False

        return is_removed

    async def until(self, condition: Any, what: str) -> None:
        """Wait for something while the load goes on."""
        give_up = time.monotonic() + 30
        while not condition():
            if time.monotonic() > give_up:
                self.fail(f"waited for {what}\n{self.logs()}")
            await sleep(0.05)


class LeaseTests(MembershipTestCase):
    """Reads by the leader's lease, with real clocks."""

    def test_paused_leader(self) -> None:
        """A leader that was stopped for longer than its lease serves nothing old when it wakes, not even a read that
        was waiting for it: neither by its lease nor as fresh enough (B30)."""
        nodes = self.make_cluster(leaseReads=True, electionTimeout=1.0, heartbeatInterval=0.1)
        self.assertEqual(nodes[0].set("k", "old").status, 200)
        leader = self.leaseholder(nodes)
        others = [node for node in nodes if node is not leader]
        leader.signal(signal.SIGSTOP)
        successor = self.leader(others)
        self.assertEqual(successor.set("k", "new").status, 200)
        time.sleep(1)
        paths = ("lease", "lease", "stale&max_stale=0.5", "linearizable")
        waiting = []
        for path in paths:
            connection = http.client.HTTPConnection("127.0.0.1", leader.http_port, timeout=10)
            self.addCleanup(connection.close)
            connection.request("GET", f"/get?key=k&consistency={path}")
            waiting.append(connection)
        leader.signal(signal.SIGCONT)
        for path, connection in zip(paths, waiting, strict=True):
            answer = connection.getresponse()
            body = answer.read()
            self.assertEqual((path, answer.status), (path, 200), body)
            self.assertIn(b'"new"', body, path)
        # The successor has a lease of its own, also through a node that only follows it.
        self.leaseholder(nodes)
        self.assertEqual(leader.get("k", "lease"), "new")

    def leaseholder(self, nodes: list[Node]) -> Node:
        """Return a node that has just served a read by its lease; it leads, and on a busy machine that may change."""

        def find() -> Node | None:
            leader = self.leader(nodes)
            before = self.leases_used(leader)
            leader.request("GET", "/get?key=k&consistency=lease")
            return leader if self.leases_used(leader) > before else None

        found: Node = self.wait_until(find, "a read by a lease")
        return found

    def leases_used(self, node: Node) -> float:
        """Return how many reads a node has served by its lease."""
        metrics = node.request("GET", "/metrics").body.decode()
        lines = [line for line in metrics.splitlines() if line.startswith("raftkv_lease_reads")]
        return sum(float(line.split()[-1]) for line in lines)


class ChangeTests(MembershipTestCase):
    """Requests to change the members of three nodes."""

    def test_refusals(self) -> None:
        """What cannot be done is refused with the reason, through any node."""
        nodes = self.make_cluster()
        leader = self.leader(nodes)
        follower = next(node for node in nodes if node is not leader)

        def refused(method: str, path: str, body: Any = None) -> tuple[int, str, str]:
            answer = follower.request(method, path, body)
            error = answer.json["error"]
            self.assertEqual(error["outcome"], "not_applied", answer.body)
            return answer.status, error["code"], error["message"]

        self.assertEqual(refused("DELETE", "/v1/cluster/members/n9")[:2], (404, "not_found"))
        status, code, message = refused("POST", "/v1/cluster/members", {"id": "n4"})
        self.assertEqual((status, code), (400, "bad_request"))
        self.assertIn("raft_addr", message)
        other = {"id": "n3", "raft_addr": "127.0.0.1:1"}
        self.assertEqual(refused("POST", "/v1/cluster/members", other)[:2], (409, "conflict"))
        self.assertEqual(refused("POST", "/v1/cluster/transfer-leadership", {"to": "n9"})[:2], (404, "not_found"))
        # Two of three voters that do not answer: to remove the third would leave nobody to decide.
        victim = next(node for node in nodes if node not in (leader, follower))
        victim.kill()
        self.wait_until(lambda: self.members(leader)[victim.name]["healthy"] is False, "the silence to be noticed")
        status, code, message = refused("DELETE", f"/v1/cluster/members/{follower.name}")
        self.assertEqual((status, code), (409, "conflict"))
        self.assertIn(victim.name, message)
        answer = follower.request("DELETE", f"/v1/cluster/members/{victim.name}")
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(self.members(follower).keys(), {leader.name, follower.name})

    def test_removed_while_away(self) -> None:
        """A node that was removed while it was down hears of it when it comes back, and says so."""
        nodes = self.make_cluster()
        leader = self.leader(nodes)
        victim = next(node for node in nodes if node is not leader)
        victim.kill()
        self.wait_until(lambda: self.members(leader)[victim.name]["healthy"] is False, "the silence to be noticed")
        self.assertEqual(leader.request("DELETE", f"/v1/cluster/members/{victim.name}").status, 200)
        term = leader.status()["term"]
        victim.start()
        self.wait_removed(victim)
        self.assertEqual(leader.status()["term"], term)

    def test_transfer(self) -> None:
        """Leadership goes where it is asked to go, and the answer comes once it is there."""
        nodes = self.make_cluster()
        leader = self.leader(nodes)
        to = next(node for node in nodes if node is not leader)
        answer = to.request("POST", "/v1/cluster/transfer-leadership", {"to": to.name})
        self.assertEqual((answer.status, answer.json["leader"]), (200, to.name), answer.body)
        self.assertEqual(self.leader(nodes).name, to.name)

    def test_refused_join(self) -> None:
        """A second node under a name that is taken is told so in one line, and ends."""
        nodes = self.make_cluster()
        twin = self.make_node("n2", join=[f"127.0.0.1:{nodes[0].rpc_port}"], dataDir="data/twin")
        twin.start()
        self.assertNotEqual(twin.wait(), 0)
        # It leads, or is a member already; the one that asks has another data directory in either case.
        lines = [line for line in twin.log().splitlines() if "n2 cannot join" in line and "data directory" in line]
        self.assertTrue(lines, twin.log())
        self.assertNotIn("Traceback", twin.log())

    def test_join_waits_for_the_cluster(self) -> None:
        """A node that joins before there is anybody to ask keeps asking, and starts again without asking."""
        first = self.make_node("n1")
        late = self.join("n2", first)
        self.wait_until(lambda: "cannot join yet" in late.log(), "a line that says so")
        first.start()
        self.wait_voters_when_ready(first, late)
        late.stop()
        late.start()
        self.wait_ready(late)
        self.assertEqual(late.log().count("asks to join"), 1)

    def wait_voters_when_ready(self, first: Node, late: Node) -> None:
        """Wait until two nodes form a cluster."""
        self.wait_ready(first, late)
        self.wait_voters(first, first.name, late.name)

    def test_moved(self) -> None:
        """A node that comes back at other addresses is found there, and the members are told (B25)."""
        nodes = self.make_cluster()
        mover = next(node for node in nodes if node is not self.leader(nodes))
        mover.stop()
        raft_addr = f"127.0.0.1:{free_port()}"
        moved = self.make_node(mover.name, peers=mover.settings["raft"]["peers"], bindAddr=raft_addr)
        moved.start()
        self.wait_ready(moved)
        others = [node for node in nodes if node is not mover]
        for node in others:
            self.wait_until(lambda node=node: self.members(node)[mover.name]["raft_addr"] == raft_addr, "the address")
        self.assertEqual({member["role"] for member in self.members(others[0]).values()}, {"voter"})
