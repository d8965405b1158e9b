"""Elections: when to campaign, whom to vote for, and how a vote stands (sections 5.2 and 5.4.1, thesis 9.6).

Knows the election timer and the ballot of one campaign; the role and the term are changed by ``node``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftkv.raft import quorum
from raftkv.raft.leases import Promise
from raftkv.raft.messages import RequestVote
from raftkv.raft.quorum import VoteResult
from raftkv.raft.ready import Role
from raftkv.raft.room import Room
from raftkv.raft.state import State

if TYPE_CHECKING:
    import random  # chance is handed in; only its type is named here


def log_is_up_to_date(theirs: RequestVote, *, last_log_term: int, last_log_index: int) -> bool:
    """Tell whether a candidate's log may lead (section 5.4.1).

    :param theirs: what the candidate said about its log.
    :param last_log_term: term of our last entry; 0 for an empty log.
    :param last_log_index: index of our last entry; 0 for an empty log.
    :return: whether their last term is later or, at equal terms, their log is no shorter.
    """
    return (theirs.last_log_term, theirs.last_log_index) >= (last_log_term, last_log_index)


class Election:
    """One server's part in elections.

    :ivar grace_ticks: ticks left in which no vote is granted and none is asked for, after a restart.
    """

    def __init__(self, state: State, *, chance: random.Random, grace_ticks: int) -> None:
        self._state = state
        self._chance = chance
        self._votes: dict[str, bool] = {}
        self._promise = Promise()
        self._hurry_ticks = 0  # left in which the timer is short
        self._comes_first = False  # nobody has asked for our vote since the leader was gone
        self.grace_ticks = grace_ticks
        self.reset_timer()

    # -- time ------------------------------------------------------------------------------------------------------

    def reset_timer(self) -> None:
        """Begin to wait anew, for a time of random length so that split votes are rare (section 5.2)."""
        minimum = self._state.settings.election_ticks
        self._elapsed_ticks = 0
        if self._hurry_ticks:
            self._timeout_ticks = self._chance.randrange(minimum // 4 + 1, minimum // 2 + 2)
        else:
            self._timeout_ticks = self._chance.randrange(minimum, 2 * minimum)

    def leader_heard(self) -> None:
        """Begin to wait anew, for the same time: drawn once for each silence, not for each message."""
        self._elapsed_ticks = 0

    def tick(self) -> bool:
        """Count one tick; return whether the election timeout has passed."""
        self.grace_ticks = max(self.grace_ticks - 1, 0)
        self._hurry_ticks = max(self._hurry_ticks - 1, 0)
        self._elapsed_ticks += 1
        # Whoever has less room on its disk lets all others try first, and yet leads where nobody else would.
        hesitation_ticks = 2 * self._state.settings.election_ticks * self._state.room.level
        return self._elapsed_ticks >= self._timeout_ticks + hesitation_ticks

    # -- a leader whose process has ended ---------------------------------------------------------------------------

    def hurry(self) -> None:
        """The leader is gone, and not merely silent: for two minimum election timeouts, wait for shorter times.

        A successor is looked for at once, and again soon where votes were split, or where promises had to end before.
        But not for longer: where nobody can win, there is no hurry.
        """
        self._hurry_ticks = 2 * self._state.settings.election_ticks
        self._comes_first = True
        self.reset_timer()

    def end_hurry(self) -> None:
        """There is a leader, or this server has given its vote to one who will be, if it can."""
        self._hurry_ticks = 0
        self._comes_first = False

    def give_way(self) -> None:
        """Somebody who may win was faster: do not compete before it had its time."""
        if self._hurry_ticks:
            self._comes_first = False
            self.reset_timer()

    @property
    def may_come_first(self) -> bool:
        """Whether this server may campaign before any timer ends, as the first one to do so."""
        return self._comes_first and self._hurry_ticks > 0 and self._state.room.level is Room.AMPLE

    # -- promises to a leader that counts on a lease -------------------------------------------------------------------

    def promise(self) -> float:
        """Promise the leader of this term to grant no vote behind its back (thesis 6.4.1).

        :return: for how many seconds; 0 where nothing is promised.
        """
        state = self._state
        if state.now is None or not state.durability.hard_state_is_durable:
            # A restart must know that there may be a promise to keep, and knows by the term on the disk.
            return 0.0
        seconds = state.settings.promise_seconds
        self._promise.give(term=state.current_term, until=state.now + seconds)
        return seconds

    @property
    def is_bound(self) -> bool:
        """Whether a promise forbids to campaign, and to vote for those who do."""
        now = self._state.now
        return now is not None and self._promise.holds(now)

    @property
    def may_succeed(self) -> bool:
        """Whether this server may campaign because the leader of this term asked it to.

        Also just after a restart: whatever was promised before it, to this leader or to an earlier one, nobody counts
        on any more.
        """
        may_break = not self.is_bound or self._promise.yields_to_successor(self._state.current_term + 1)
        return self._could_lead and may_break

    # -- our own campaign ------------------------------------------------------------------------------------------

    @property
    def may_campaign(self) -> bool:
        """Whether this server may try to lead by itself: not while its vote for itself could break a lease."""
        if self.grace_ticks:
            return False
        return self._could_lead

    @property
    def _could_lead(self) -> bool:
        """Whether this server would be of use as a leader.

        Learners and strangers never are (B8); nor is a server whose disk stalls: its vote for itself would wait for the
        disk, and what it then led would too. One that the latest configuration leaves out still is, without a vote of
        its own, until that is known to be committed: it may be the only one that holds the entry, and without it nobody
        could win (thesis 4.2.2, B22).
        """
        state = self._state
        if state.disk.stalled or state.may_lack_entries:
            return False
        return any(state.is_voter(known) for known in state.configurations.since(state.commit_index))

    def open_ballot(self) -> None:
        """Forget earlier answers; a new campaign begins."""
        self._votes.clear()

    def count(self, voter: str, *, granted: bool) -> VoteResult:
        """Take an answer; the first one of each voter stands.

        :return: how the vote now stands, in every majority that the configuration in force asks for.
        """
        self._votes.setdefault(voter, granted)
        configuration = self._state.configuration
        return quorum.vote_result(configuration.voters, configuration.outgoing_voters, self._votes)

    def requests(self, *, term: int, pre_vote: bool, leadership_transfer: bool = False) -> list[RequestVote]:
        """Make the requests of a campaign, one for each other voter.

        :param term: the term that the campaign is for.
        """
        state = self._state
        configuration = state.configuration
        return [
            RequestVote(
                term=term,
                sender=state.node_id,
                to=voter,
                last_log_index=state.log.last_index,
                last_log_term=state.log.last_term,
                pre_vote=pre_vote,
                leadership_transfer=leadership_transfer,
                to_incarnation=configuration.members[voter].incarnation,
            )
            for voter in sorted(configuration.voters | configuration.outgoing_voters)
            if voter != state.node_id
        ]

    # -- the campaigns of others -------------------------------------------------------------------------------------

    def turns_deaf_ear(self, request: RequestVote) -> str | None:
        """Return why a request must not even be considered, so that its term is not taken over either; or ``None``.

        A server that hears a current leader ignores those who would depose it: removed servers, and members that
        lost only their own connection (end of section 6, B6, B7).
        """
        state = self._state
        is_for_us = request.to_incarnation == state.incarnation
        if not is_for_us and (request.to_incarnation or state.joined):
            return f"the vote that {request.sender} asks for is that of another incarnation of {state.node_id}"
        if self.grace_ticks and not request.leadership_transfer:
            # For a successor there is no need to wait: the promise was given in a term that is on our disk, hence to
            # the leader that chose it, which gave its lease up, or to an earlier one, whose lease ended before that
            # leader was elected.
            return f"no vote for {request.sender}: a lease may have been promised before the restart"
        may_break = request.leadership_transfer and self._promise.yields_to_successor(request.term)
        if self.is_bound and request.term >= state.current_term and not may_break:
            # Not the same as hearing a leader: this holds although the leader is forgotten, or another term begun.
            return f"no vote for {request.sender}: a leader may count on a lease"
        hears_leader = state.leader is not None and (
            state.role is Role.LEADER or self._elapsed_ticks < state.settings.election_ticks
        )
        if hears_leader and request.term > state.current_term and not request.leadership_transfer:
            return f"no vote for {request.sender}: leader {state.leader} is heard"
        return None

    def would_grant(self, request: RequestVote) -> bool:
        """Tell whether a request that is not of an earlier term deserves a vote.

        One of our own term needs a vote that is still ours to give; a pre-vote for a later term gives none away. But
        while our disk stalls the vote itself would not come, and a candidate only drive the term up.
        """
        state = self._state
        if state.may_lack_entries:
            return False  # the candidate may lack what we had, and not know it either (B42)
        if request.pre_vote:
            free = request.term > state.current_term and not state.disk.stalled
        else:
            free = state.voted_for == request.sender or (state.voted_for is None and state.leader is None)
        return free and log_is_up_to_date(
            request, last_log_term=state.log.last_term, last_log_index=state.log.last_index
        )
