"""Violations of what the services around the core promise: who is answered what, and when a node must stop."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

DRIVER = "raftkv/server/driver.py"
FORWARDING = "raftkv/protocols/forwarding.py"
HELLO = "raftkv/protocols/hello.py"
PEER_INCOMING = "raftkv/protocols/peer/incoming.py"
PEER_OUTGOING = "raftkv/protocols/peer/outgoing.py"
PIPELINE = "raftkv/client/pipeline.py"
PROPOSALS = "raftkv/server/proposals.py"
READINESS = "raftkv/server/readiness.py"
REPLICA = "raftkv/server/replica.py"
RPC = "raftkv/protocols/rpc_server.py"
RPC_CLIENT = "raftkv/protocols/rpc_client.py"

PROPOSAL_TESTS = ("tests.server.test_proposals",)

MUTANTS = (
    Mutant(
        name="acknowledged-when-proposed",
        rule="A write is answered once its entry has been applied, not when it is proposed.",
        reference="section 5.3, B4",
        edits=(
            Edit(
                PROPOSALS,
                "            self._proposed[entry.index] = _Proposed(entry.term, batch)\n",
                "            self._share_out(batch, [(0, entry.index)] * len(commands))\n",
            ),
        ),
        hints=PROPOSAL_TESTS,
    ),
    Mutant(
        name="waiter-ignores-the-term",
        rule="A waiter is answered by the entry at its index only if that is of its term, too.",
        reference="B65",
        edits=(Edit(PROPOSALS, "        if proposed.term != entry.term:\n", "        if False:\n"),),
        hints=PROPOSAL_TESTS,
    ),
    Mutant(
        name="waiter-of-the-wrong-index",
        rule="The answers of an entry go to those who proposed it.",
        reference="B65",
        edits=(
            Edit(
                PROPOSALS,
                "        proposed = self._proposed.pop(entry.index, None)\n        if proposed is None:\n",
                "        proposed = self._proposed.pop(entry.index + 1, None)\n        if proposed is None:\n",
            ),
        ),
        hints=PROPOSAL_TESTS,
    ),
    Mutant(
        name="replaced-write-called-not-applied",
        rule="A write that a later leadership of ours replaced has an unknown outcome: others may yet commit it.",
        reference="B63, B65",
        edits=(
            Edit(
                PROPOSALS,
                'OutcomeUnknown("leadership was lost before the write was committed")',
                "ProposalDropped()",
            ),
        ),
        hints=PROPOSAL_TESTS,
    ),
    Mutant(
        name="replaced-write-never-answered",
        rule="Every write is answered, also one that a later leadership of ours replaced.",
        reference="B65",
        edits=(Edit(PROPOSALS, "            self._forget_replaced(entry.index)\n", ""),),
        hints=PROPOSAL_TESTS,
    ),
    Mutant(
        name="covered-write-called-not-applied",
        rule="A write that a snapshot covered has an unknown outcome.",
        reference="B63",
        edits=(
            Edit(
                PROPOSALS,
                'OutcomeUnknown("the entry was covered by a snapshot from another leader")',
                "ProposalDropped()",
            ),
        ),
        hints=PROPOSAL_TESTS,
    ),
    Mutant(
        name="late-write-called-not-applied",
        rule="A write that was not committed in time has an unknown outcome.",
        reference="B63",
        edits=(Edit(PROPOSALS, 'RequestTimeout(message, "unknown")', 'RequestTimeout(message, "not_applied")'),),
        hints=PROPOSAL_TESTS,
    ),
    Mutant(
        name="abandoned-write-called-not-applied",
        rule="A write in the log of a node that stops has an unknown outcome.",
        reference="B63",
        edits=(
            Edit(
                PROPOSALS,
                "OutcomeUnknown(unknown)",
                "ShuttingDown()",
            ),
        ),
        hints=PROPOSAL_TESTS,
    ),
    Mutant(
        name="unknown-outcome-tried-again",
        rule="A write whose outcome is unknown is not sent again by itself.",
        reference="B63",
        edits=(
            Edit(
                PROPOSALS,
                'if isinstance(outcome, NoLeader) and outcome.outcome == "not_applied":',
                "if isinstance(outcome, NoLeader | OutcomeUnknown):",
            ),
        ),
        hints=PROPOSAL_TESTS,
    ),
    Mutant(
        name="forwarded-twice",
        rule="A write that was forwarded once is never forwarded again.",
        reference="B64",
        edits=(
            Edit(PROPOSALS, "        self._finish([s for s in submissions if s.forwarded], not_leader)\n", ""),
            Edit(PROPOSALS, "own = [s for s in submissions if not s.forwarded]", "own = submissions"),
        ),
        hints=PROPOSAL_TESTS,
    ),
    Mutant(
        name="forwarding-not-marked",
        rule="A forwarded write says so.",
        reference="B64",
        edits=(
            Edit(
                FORWARDING,
                "connection.write(commands, done, forwarded=True)",
                "connection.write(commands, done, forwarded=False)",
            ),
        ),
        hints=("tests.protocols.test_rpc",),
    ),
    Mutant(
        name="mark-of-forwarding-ignored",
        rule="The leader's node hands on that a write was forwarded.",
        reference="B64",
        edits=(
            Edit(RPC, "        forwarded = flags == FORWARDED\n", "        forwarded = False\n        flags = 0\n"),
        ),
        hints=("tests.protocols.test_rpc",),
    ),
    Mutant(
        name="part-applied-called-not-applied",
        rule="A write of which a part may have been applied has an unknown outcome.",
        reference="B63",
        edits=(Edit(FORWARDING, "        if len(errors) < len(self._answers):\n", "        if False:\n"),),
        hints=("tests.protocols.test_rpc",),
    ),
    Mutant(
        name="violation-survived",
        rule="A node whose core refuses to go on stops: a silent node is safe and a wrong one is not.",
        reference="our design",
        edits=(
            Edit(
                DRIVER,
                "            self.fail(error)\n        else:\n",
                '            self._log.debug("went on after {error}", error=error)\n        else:\n',
            ),
        ),
        hints=("tests.server.test_driver", "tests.server.test_replica"),
    ),
    Mutant(
        name="works-on-after-a-failure",
        rule="A node that has failed takes nothing more from the network or the disk.",
        reference="our design, B43",
        edits=(
            Edit(
                DRIVER,
                "        if not self.running or self.failure is not None:\n            return\n        try:",
                "        try:",
            ),
            Edit(
                DRIVER,
                "        if self.failure is not None:\n            return\n        try:\n            self.node.time_is"
                "(self._steady_seconds())\n            self.node.advance",
                "        try:\n            self.node.time_is(self._steady_seconds())\n            self.node.advance",
            ),
            Edit(DRIVER, " and self.running and self.failure is None:", " and self.running:"),
        ),
        hints=("tests.server.test_driver", "tests.server.test_replica"),
    ),
    Mutant(
        name="another-clusters-peer",
        rule="A node of another cluster is turned away.",
        reference="our design, B24",
        edits=(
            Edit(HELLO, "    if wanted != found and not (is_client and not (wanted and found)):\n", "    if False:\n"),
        ),
        hints=("tests.protocols.test_peer",),
    ),
    Mutant(
        name="another-member-at-the-address",
        rule="Messages for a member are not given to whoever has its address now.",
        reference="our design, B24",
        edits=(Edit(PEER_OUTGOING, "        if hello.identity.node_id != self._peer:\n", "        if False:\n"),),
        hints=("tests.protocols.test_peer",),
    ),
    Mutant(
        name="snapshot-message-without-its-file",
        rule="An InstallSnapshot that comes without its file is refused: the core would drop its log.",
        reference="section 7, B46",
        edits=(Edit(PEER_INCOMING, "    if type(decoded) is InstallSnapshot:\n", "    if False:\n"),),
        hints=("tests.protocols.test_peer",),
    ),
    Mutant(
        name="ready-by-its-own-account",
        rule="A node is ready once it has what the leader had committed, not what it knows itself to be committed.",
        reference="B32",
        edits=(Edit(REPLICA, " or not self._catching_up.is_done:", ":"),),
        hints=("tests.server.test_readiness",),
    ),
    Mutant(
        name="ready-for-an-earlier-leader",
        rule="A leader that becomes known is asked anew.",
        reference="our design",
        edits=(Edit(READINESS, "            self.is_done = False\n", ""),),
        hints=("tests.server.test_readiness",),
    ),
    Mutant(
        name="no-room-for-one-refuses-its-neighbours",
        rule="Writes that need no room are taken, even beside some that are refused for want of it.",
        reference="B50",
        edits=(Edit(RPC, "if isinstance(outcome, DiskFull) and len(ids) > 1 and not self.closing:\n", "if False:\n"),),
        hints=("tests.protocols.test_rpc",),
    ),
    Mutant(
        name="shared-request-refused-for-all",
        rule="A write is never refused for another's fault, though a client sends them together.",
        reference="our design",
        edits=(Edit(PIPELINE, "        elif len(requests) > 1 and not worth_retrying(answer)", "        elif False"),),
        hints=("tests.client.test_batch",),
    ),
    Mutant(
        name="shared-request-dies-with-its-connection",
        rule="What was to be sent over a connection that was lost is sent over the next one.",
        reference="our design",
        edits=(
            Edit(
                RPC_CLIENT,
                "        super().connectionLost(reason)\n        self._make_last_requests()\n",
                "        super().connectionLost(reason)\n",
            ),
        ),
        hints=("tests.client.test_batch", "tests.protocols.test_rpc"),
    ),
)
