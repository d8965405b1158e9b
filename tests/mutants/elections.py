"""Violations of the rules of elections: terms, votes, pre-votes (sections 5.1, 5.2, 5.4.1, 6; thesis 9.6)."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

ELECTION = "raftkv/raft/election.py"
NODE = "raftkv/raft/node.py"
QUORUM = "raftkv/raft/quorum.py"
RECOVERY = "raftkv/raft/recovery.py"
STATE = "raftkv/raft/state.py"

PAPER = ("tests.raft.test_paper",)
CLOSED = ("tests.raft.test_closed_leader",)
BUGS = ("tests.raft.test_bugs",)

MUTANTS = (
    Mutant(
        name="vote-twice",
        rule="A server votes for at most one candidate in a term.",
        reference="section 5.2, B2",
        edits=(
            Edit(
                ELECTION,
                "free = state.voted_for == request.sender or (state.voted_for is None and state.leader is None)",
                "free = True",
            ),
            Edit(STATE, "if self.voted_for not in (None, candidate):", "if False:"),
            Edit(STATE, "if self.voted_for is None:\n", "if True:\n"),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="vote-kept-in-new-term",
        rule="In a new term nobody has this server's vote yet.",
        reference="section 5.1, Figure 2",
        edits=(Edit(STATE, "HardState(term=term)", "HardState(term=term, voted_for=self.voted_for)"),),
        hints=PAPER,
    ),
    Mutant(
        name="vote-forgotten-at-restart",
        rule="A vote survives a restart.",
        reference="section 5.2, Figure 2, B1",
        edits=(
            Edit(RECOVERY, "        hard_state=hard_state,\n", "        hard_state=HardState(term=hard_state.term),\n"),
        ),
        hints=(*BUGS, *PAPER),
    ),
    Mutant(
        name="vote-cleared-by-append",
        rule="A message of the same term does not give the vote back.",
        reference="section 5.2, B2",
        edits=(
            Edit(
                NODE,
                "        self._follow(message.sender)\n        accept_entries(self._state, message)",
                "        self._follow(message.sender)\n"
                "        self._state.durability.hard_state = HardState(term=self.current_term)\n"
                "        self._state.leader = None\n"
                "        accept_entries(self._state, message)",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="vote-for-a-shorter-log",
        rule="No vote for a candidate whose log ends in the same term and is shorter.",
        reference="section 5.4.1",
        edits=(
            Edit(
                ELECTION,
                "return (theirs.last_log_term, theirs.last_log_index) >= (last_log_term, last_log_index)",
                "return theirs.last_log_term >= last_log_term",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="vote-for-an-older-term",
        rule="No vote for a candidate whose log ends in an earlier term, however long it is.",
        reference="section 5.4.1",
        edits=(
            Edit(
                ELECTION,
                "return (theirs.last_log_term, theirs.last_log_index) >= (last_log_term, last_log_index)",
                "return theirs.last_log_index >= last_log_index",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="vote-before-its-sync",
        rule="A vote leaves only once it is on disk.",
        reference="section 5.2, Figure 2, B1",
        edits=(Edit(NODE, "            state.send_once_durable(answer)", "            state.send(answer)"),),
        hints=PAPER,
    ),
    Mutant(
        name="candidacy-before-its-sync",
        rule="A candidate asks for votes only once its term and its own vote are on disk.",
        reference="section 5.2, our design",
        edits=(Edit(NODE, "            state.send_once_durable(request)", "            state.send(request)"),),
        hints=PAPER,
    ),
    Mutant(
        name="own-vote-before-its-sync",
        rule="A candidate counts its own vote only once it is on disk.",
        reference="section 5.2, B4",
        edits=(
            Edit(
                NODE,
                "        state.send_once_durable(\n"
                "            RequestVoteResponse(term=state.current_term, sender=state.node_id, to=state.node_id, "
                "vote_granted=True)\n"
                "        )\n",
                "        self._act_on(self._election.count(state.node_id, granted=True))\n",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="no-pre-vote",
        rule="A server asks whether it could win before it raises its term.",
        reference="thesis 9.6, B6",
        edits=(Edit(NODE, "self._become_pre_candidate()", "self._become_candidate(leadership_transfer=False)"),),
        hints=PAPER,
    ),
    Mutant(
        name="pre-vote-raises-the-term",
        rule="The term of a pre-vote is one that nobody has entered: it is not taken over.",
        reference="thesis 9.6",
        edits=(Edit(NODE, "        return message.pre_vote\n", "        return False\n"),),
        hints=PAPER,
    ),
    Mutant(
        name="late-pre-vote-counts",
        rule="A pre-vote granted for an earlier campaign does not count in this one.",
        reference="thesis 9.6",
        edits=(
            Edit(
                NODE,
                "if message.pre_vote and message.vote_granted and message.term != self.current_term + 1:",
                "if False:",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="old-ballot-counts",
        rule="Votes of an earlier term do not count in a new campaign.",
        reference="section 5.2",
        edits=(Edit(ELECTION, "        self._votes.clear()\n", "        pass\n"),),
        hints=PAPER,
    ),
    Mutant(
        name="no-stickiness",
        rule="A server that hears a leader ignores those who would depose it.",
        reference="end of section 6, B6, B7",
        edits=(Edit(ELECTION, "hears_leader = state.leader is not None and (", "hears_leader = False and ("),),
        hints=(*PAPER, *BUGS),
    ),
    Mutant(
        name="stickiness-blocks-transfer",
        rule="A candidate that the leader itself asked for is heard although a leader is.",
        reference="thesis 3.10, 4.2.3",
        edits=(Edit(ELECTION, "current_term and not request.leadership_transfer:", "current_term:"),),
        hints=(*PAPER, *BUGS),
    ),
    Mutant(
        name="another-incarnations-vote",
        rule="A node votes only as the incarnation that is asked: a wiped disk does not vote for its former self.",
        reference="B24",
        edits=(
            Edit(
                ELECTION,
                "is_for_us = request.to_incarnation == state.incarnation",
                "is_for_us = True",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="vote-in-the-grace-period",
        rule="A node that restarts grants no vote in its first ticks: it may have promised a lease.",
        reference="thesis 6.4.1, B31",
        edits=(
            Edit(
                ELECTION,
                "        if self.grace_ticks and not request",
                "        if False and not request",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="campaign-in-the-grace-period",
        rule="A node that restarts does not vote for itself in its first ticks either.",
        reference="thesis 6.4.1, B31",
        edits=(Edit(ELECTION, "        if self.grace_ticks:\n            return False\n", ""),),
        hints=PAPER,
    ),
    Mutant(
        name="learner-campaigns",
        rule="A learner never campaigns.",
        reference="thesis 4.2.1, B8",
        edits=(
            Edit(
                ELECTION,
                "return any(state.is_voter(known) for known in state.configurations.since(state.commit_index))",
                "return state.node_id in state.configuration.members",
            ),
        ),
        hints=(*BUGS, *PAPER),
    ),
    Mutant(
        name="removed-voter-gives-up-early",
        rule="A voter that an uncommitted configuration leaves out still campaigns: it may alone hold that entry.",
        reference="thesis 4.2.2, B22",
        edits=(
            Edit(
                ELECTION,
                "return any(state.is_voter(known) for known in state.configurations.since(state.commit_index))",
                "return state.configuration.is_voter(state.node_id)",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="learner-refuses-to-vote",
        rule="A learner votes when asked: it may not have heard of its promotion.",
        reference="B8",
        edits=(
            Edit(
                ELECTION,
                "return free and log_is_up_to_date(",
                "return state.configuration.is_voter(state.node_id) and free and log_is_up_to_date(",
            ),
        ),
        hints=BUGS,
    ),
    Mutant(
        name="strangers-votes-count",
        rule="Only the votes of voters count.",
        reference="section 6, thesis 4.2.1",
        edits=(
            Edit(QUORUM, "[votes[voter] for voter in voters if voter in votes]", "[vote for vote in votes.values()]"),
        ),
        hints=("tests.raft.test_quorum", *PAPER),
    ),
    Mutant(
        name="half-is-a-majority",
        rule="Half of an even number of voters is no majority.",
        reference="section 5.2",
        edits=(Edit(QUORUM, "needed = len(voters) // 2 + 1", "needed = (len(voters) + 1) // 2"),),
        hints=("tests.raft.test_quorum",),
    ),
    Mutant(
        name="joint-vote-by-one-side",
        rule="Under a joint configuration an election needs a majority of both sides.",
        reference="section 6",
        edits=(Edit(QUORUM, "for side in (voters, outgoing) if side or side is voters", "for side in (voters,)"),),
        hints=("tests.raft.test_quorum", *PAPER),
    ),
    Mutant(
        name="stale-term-accepted",
        rule="A message of an earlier term is rejected.",
        reference="section 5.1",
        edits=(Edit(NODE, "elif message.term < state.current_term:", "elif False:"),),
        hints=PAPER,
    ),
    Mutant(
        name="leader-ignores-a-later-term",
        rule="A leader that sees a later term steps down.",
        reference="section 5.1",
        edits=(
            Edit(
                NODE,
                "if not _is_hypothetical(message):",
                "if not _is_hypothetical(message) and self.role is not Role.LEADER:",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="stale-candidate-not-told",
        rule="A candidate of an earlier term is told the present one.",
        reference="section 5.1, B5",
        edits=(Edit(NODE, "self._answer_vote(message, granted=False)", "return"),),
        hints=BUGS,
    ),
    Mutant(
        name="stale-leader-not-told",
        rule="A leader of an earlier term is told the present one, or a server that has gone on could not follow it.",
        reference="section 5.1, B5",
        edits=(Edit(NODE, "elif isinstance(message, AppendEntries | Heartbeat | InstallSnapshot):", "elif False:"),),
        hints=BUGS,
    ),
    Mutant(
        name="heartbeat-does-not-calm",
        rule="A follower that hears its leader does not campaign.",
        reference="section 5.2",
        edits=(
            Edit(
                ELECTION,
                'drawn once for each silence, not for each message."""\n        self._elapsed_ticks = 0\n',
                'drawn once for each silence, not for each message."""\n',
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="equal-election-timeouts",
        rule="Election timeouts are random, so that split votes are rare.",
        reference="section 5.2",
        edits=(Edit(ELECTION, "self._chance.randrange(minimum, 2 * minimum)", "minimum"),),
        hints=PAPER,
    ),
    Mutant(
        name="candidate-clings-on",
        rule="A candidate that hears the leader of its term follows it.",
        reference="section 5.2",
        edits=(
            Edit(
                NODE,
                "        if state.role is Role.FOLLOWER and state.leader == leader:\n",
                "        if state.role is Role.CANDIDATE or state.leader == leader:\n",
            ),
        ),
        hints=PAPER,
    ),
    Mutant(
        name="leader-gone-by-hearsay",
        rule="Only who has seen its own connections to the leader close votes for another one.",
        reference="thesis 4.2.3, B6",
        edits=(
            Edit(NODE, "if self._leadership is not None or peer != state.leader:", "if self._leadership is not None:"),
        ),
        hints=CLOSED,
    ),
    Mutant(
        name="dead-leader-waited-for",
        rule="A leader whose process was seen to end is not waited for.",
        reference="our own design",
        edits=(Edit(ELECTION, "        self._comes_first = True\n", ""),),
        hints=CLOSED,
    ),
    Mutant(
        name="early-candidates-compete",
        rule="Who has granted a pre-vote lets that candidate have its time.",
        reference="section 5.2",
        edits=(Edit(NODE, "            self._election.give_way()\n", "            pass\n"),),
        hints=CLOSED,
    ),
    Mutant(
        name="own-closing-counts",
        rule="A connection that we have closed ourselves says nothing of the process at its other end.",
        reference="our own design",
        edits=(
            Edit("raftkv/protocols/framing.py", "self.ended_by_peer = not self.closing and ", "self.ended_by_peer = "),
        ),
        hints=("tests.protocols.test_peer",),
    ),
    Mutant(
        name="one-closed-connection-counts",
        rule="A process that has closed one of its connections has not ended while another one stands.",
        reference="our own design",
        edits=(
            Edit(
                "raftkv/protocols/presence.py",
                "            return  # one of several: a listener was restarted, or something broke\n",
                "            self._gone(peer)\n            return\n",
            ),
        ),
        hints=("tests.protocols.test_peer",),
    ),
)
