"""The endpoints that change the members, through both lanes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from raftkv import errors
from tests.web.lanes import LaneTestCase


class MembersTests(LaneTestCase):
    """What reaches the node, and what comes back."""

    def asked(self) -> list[tuple[str, Any]]:
        """Return, once, what both nodes were asked for."""
        fast, klein = (list(lane.node.requests) for lane in self.lanes)
        self.assertEqual(fast, klein)
        self.each(lambda lane: lane.node.requests.clear())
        return fast

    def test_change(self) -> None:
        """The document goes to the node as it is, and the answer is the cluster."""
        answer = self.ask_json(
            "POST", "/v1/cluster/members", body=b'{"add":[{"id":"n4"}],"remove":["n1"],"force":true}'
        )
        self.assertEqual(answer, self.fast.node.local_cluster())
        self.assertEqual(self.asked(), [("change", {"add": [{"id": "n4"}], "remove": ["n1"], "force": True})])

    def test_short_forms(self) -> None:
        """A member that the path names is removed or promoted."""
        self.ask_json("DELETE", "/v1/cluster/members/n%34")
        self.ask_json("DELETE", "/v1/cluster/members/n4?force=true")
        self.ask_json("POST", "/v1/cluster/members/n4/promote")
        self.assertEqual(
            self.asked(),
            [
                ("change", {"remove": ["n4"], "force": False}),
                ("change", {"remove": ["n4"], "force": True}),
                ("change", {"promote": ["n4"], "force": False}),
            ],
        )

    def test_transfer(self) -> None:
        """The target may be named or not, with a body or without."""
        self.ask_json("POST", "/v1/cluster/transfer-leadership", body=b'{"to":"n2"}')
        self.ask_json("POST", "/v1/cluster/transfer-leadership", body=b"{}")
        self.ask_json("POST", "/v1/cluster/transfer-leadership")
        self.assertEqual(self.asked(), [("transfer", {"to": "n2"}), ("transfer", {}), ("transfer", {})])

    def test_refusals(self) -> None:
        """What is no such request is refused before the node hears of it."""
        for method, target, body, status in (
            ("POST", "/v1/cluster/members", b"", 400),
            ("POST", "/v1/cluster/members", b"[]", 400),
            ("POST", "/v1/cluster/members", b'{"ad":[]}', 400),
            ("POST", "/v1/cluster/transfer-leadership", b'{"too":"n2"}', 400),
            ("DELETE", "/v1/cluster/members/n4?force=perhaps", None, 400),
            ("DELETE", "/v1/cluster/members/%ff", None, 400),
            ("GET", "/v1/cluster/members", None, 405),
            ("DELETE", "/v1/cluster/members/n4/promote", None, 405),
            ("DELETE", "/v1/cluster/members/n4/x", None, 404),
        ):
            self.assertEqual((target, self.ask(method, target, body=body).status), (target, status))
        self.assertEqual(self.asked(), [])

    def test_errors(self) -> None:
        """What the cluster says is told with its status and its outcome."""
        for error, status in (
            (errors.Conflict("the quorum would be lost"), 409),
            (errors.NotFound("remove: there is no member n9"), 404),
            (errors.RequestTimeout("not committed in time", "unknown"), 504),
            (errors.Removed(), 503),
        ):
            for lane in self.lanes:
                lane.node.cluster_result = Deferred()
                lane.node.cluster_result.errback(error)
            refused = self.ask("DELETE", "/v1/cluster/members/n4")
            self.assert_refused(refused, status, error.code, str(error))
            self.assertEqual(refused.error["outcome"], error.outcome)
