"""Whether this node's state is that of the majority; where it is not, nothing of it is served.

Every node notes the digest of its state at fixed indexes of the log and exchanges its latest note with each other
member; each of them compares for itself, so that a leader is judged like anybody else. What a majority of the voters
has is right (see ``notes``). A node that differs from it closes its fence: it serves nothing, takes and lends no
snapshot, and hands leadership over. It goes on to vote and to acknowledge, for its log is right; only what was made
of it is not. Where the voters differ without a majority nobody can tell who is right, and all of them stop.

Fetching the right state is the business of ``resync``. The fence opens again once a note of ours equals the
majority's, at an index no earlier than the last that did not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import BadRequest, Conflict, DigestTie, Fenced, NotLeader, RaftKVError, ShuttingDown
from raftkv.interfaces import Consistency, Identity, IForwarder
from raftkv.membership import Directory
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role, SoftState
from raftkv.server.notes import Notes, Verdict


class Fence:
    """Judges the state of one node; takes part in the driver's turn.

    :param applied_index: returns the index that the state is at.
    :param interrupt: answers everybody who waits with an error of this class.
    :param store: writes down the index at which the state was found to differ; ``erase`` forgets it.
    :param checkpoint: proposes an entry at which all nodes take a note.
    :param wake: asks the driver for a turn.
    :param fatal: called with an error that makes it unsafe to go on.
    :param fenced_index: what an earlier life has written down; 0 for nothing.
    :param recovered_index: of the snapshot that this life begins with; 0 for none.
    :ivar is_fenced: whether the state differs from the majority's, or has not been compared since it did.
    :ivar is_tied: whether the voters differ, and no majority agrees.
    :ivar agreed_index: the latest index at which this very state was equal to the majority's; 0 for none. Snapshots
        that end before it can be trusted.
    :ivar was_replaced: whether the state has come from elsewhere since it was found to differ.
    :ivar relapses: how often a state that came from elsewhere differed too, while the fence was closed.
    :ivar noted: how many notes were taken since the start; ``closed`` counts how often the fence was.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        identity: Identity,
        node: RaftNode,
        directory: Directory,
        forwarder: IForwarder,
        applied_index: Callable[[], int],
        interrupt: Callable[[type[RaftKVError]], None],
        store: Callable[[int], Deferred[None]],
        erase: Callable[[], Deferred[None]],
        checkpoint: Callable[[], None],
        wake: Callable[[], None],
        fatal: Callable[[BaseException], None],
        election_ticks: int,
        fenced_index: int,
        recovered_index: int,
    ) -> None:
        self.is_fenced = fenced_index > 0
        self.is_tied = False
        self.agreed_index = 0
        self.was_replaced = False
        self.relapses = 0
        self.noted = 0
        self.closed = 0
        self._identity = identity
        self._node = node
        self._directory = directory
        self._forwarder = forwarder
        self._applied_index = applied_index
        self._interrupt = interrupt
        self._store = store
        self._erase = erase
        self._checkpoint = checkpoint
        self._wake = wake
        self._fatal = fatal
        self._election_ticks = election_ticks
        self._fenced_index = fenced_index
        self._recovered_index = recovered_index
        self._notes = Notes(identity.node_id)
        self._verdict = Verdict()
        self._reached = 0  # what was applied before the state came from elsewhere: it must not seem to go back
        self._told: dict[str, int] = {}  # the latest note that each member has of us
        self._calling: set[str] = set()
        self._ticks = 0
        self._tied_ticks = 0
        self._disputed_index = 0  # for which we have asked for more notes, as leader
        self._opening = False
        self._stopped = False
        self._opened: list[Callable[[], None]] = []

    # -- what follows from it ------------------------------------------------------------------------------------

    def refusal(self, consistency: Consistency | None = None) -> RaftKVError | None:
        """Return why a request cannot be served, or ``None``.

        In a tie stale reads are: they promise no more than what this node holds, and an operator has to see that.

        :param consistency: of a read; ``None`` for a write.
        """
        if self.is_fenced:
            return Fenced()
        return DigestTie() if self.is_tied and consistency != "stale" else None

    def alarms(self) -> list[str]:
        """Return the alarms to raise."""
        raised = (("digest_tie", self.is_tied), ("fenced", self.is_fenced))
        return [name for name, is_raised in raised if is_raised]

    def hindrance(self) -> str:
        """Return in words what keeps this node from serving, empty where nothing does."""
        if self.is_fenced:
            return f"the state differed from the majority's at index {self._fenced_index} and is being fetched anew"
        return "the states of the nodes differ and no majority agrees on one" if self.is_tied else ""

    def when_opened(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` each time the fence has opened."""
        self._opened.append(listener)

    def calls(self) -> dict[str, Callable[[Mapping[str, Any]], object]]:
        """Return what other nodes can ask of this one."""
        return {"compare_state": self.compare}

    # -- notes ---------------------------------------------------------------------------------------------------

    def note(self, index: int, digest: str) -> None:
        """The state machine has taken a note."""
        self.noted += 1
        self._notes.note(self._identity.node_id, index, digest)
        self._judge()
        self._tell_all(again=False)

    def replaced(self, index: int) -> None:
        """The state has come from a snapshot: what was noted of the one before says nothing about it."""
        is_start, self._recovered_index = index == self._recovered_index, 0
        self._notes.start_over()
        self._told.clear()
        self.agreed_index = 0
        self._verdict = Verdict()
        self._reached = max(self._reached, self._node.commit_index)
        self.was_replaced = self.is_fenced and not is_start

    def compare(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Take the note of another member, and give ours for the same index."""
        member, index, digest = _claim(document)
        self._admit(member, str(document.get("incarnation", "")))
        if digest:
            self._notes.note(member, index, digest)
            self._judge()
        own = "" if self._is_silent else self._notes.digest_at(self._identity.node_id, index) or ""
        return {
            "member": self._identity.node_id,
            "incarnation": self._identity.incarnation,
            "index": index,
            "digest": own,
        }

    def _admit(self, member: str, incarnation: str) -> None:
        known = self._node.configuration.members.get(member)
        if known is None or known.incarnation not in ("", incarnation):
            raise Conflict(f"{member} is no member, or has another data directory than the member of that name")

    @property
    def _is_silent(self) -> bool:
        """Whether our notes are kept from others: a state that is known to be wrong has no vote about others'."""
        return self.is_fenced and not self.was_replaced

    def _tell_all(self, *, again: bool) -> None:
        """Exchange our latest note with everybody who lacks it, or, ``again``, whose own is not known yet."""
        index = self._notes.newest()
        own = self._identity.node_id
        members = self._node.configuration.members
        if self._stopped or not index or own not in members:
            return
        for peer in sorted(members.keys() - {own} - self._calling):
            if self._told.get(peer, 0) < index or (again and self._notes.digest_at(peer, index) is None):
                self._tell(peer, index)

    def _tell(self, peer: str, index: int) -> None:
        address = self._directory.addresses(peer).rpc_addr
        if not address:
            return
        own = self._identity
        digest = "" if self._is_silent else self._notes.digest_at(own.node_id, index) or ""
        document = {"member": own.node_id, "incarnation": own.incarnation, "index": index, "digest": digest}
        self._calling.add(peer)
        asked: Deferred[Any] = self._forwarder.call(address, "compare_state", document)
        asked.addCallbacks(self._answered, self._not_answered, callbackArgs=(peer, index), errbackArgs=(peer,))

    def _answered(self, answer: Any, peer: str, index: int) -> None:
        self._calling.discard(peer)
        try:
            member, answered_index, digest = _claim(answer)
            if member != peer or answered_index != index:
                raise BadRequest(f"{member} answered for {answered_index}")
            self._admit(member, str(answer.get("incarnation", "")))
        except RaftKVError as error:
            self._log.warn("an answer of {peer} about its state makes no sense: {reason}", peer=peer, reason=error)
            return
        self._told[peer] = max(self._told.get(peer, 0), index)
        if digest:
            self._notes.note(peer, index, digest)
            self._judge()
        self._tell_all(again=False)  # one more may have been taken meanwhile

    def _not_answered(self, failure: Failure, peer: str) -> None:
        self._calling.discard(peer)
        failure.trap(RaftKVError)  # the next round asks again

    # -- the verdict ---------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        configuration = self._node.committed_configuration()[0]
        verdict = self._verdict = self._notes.judge(configuration.voters, configuration.outgoing_voters)
        if not verdict.index:
            return
        if verdict.agrees:
            self.agreed_index = max(self.agreed_index, verdict.index)
            self._open_if_due()
        else:
            self._close(verdict.index)

    def _close(self, index: int) -> None:
        if self.is_fenced:
            if self.was_replaced:
                self.was_replaced = False
                self.relapses += 1
                self._log.error(
                    "{node_id}: the state that was fetched differs from the majority's too, at index {index}",
                    node_id=self._identity.node_id,
                    index=index,
                )
            self._fenced_index = max(self._fenced_index, index)
            return
        self.is_fenced, self._fenced_index = True, index
        self.was_replaced = False
        self.closed += 1
        self._log.error(
            "{node_id}: the state at index {index} differs from that of the majority; it serves nothing until it has "
            "fetched theirs",
            node_id=self._identity.node_id,
            index=index,
            alarm="fenced",
        )
        self._store(index).addErrback(self._not_stored)
        self._interrupt(Fenced)
        self._wake()

    def _open_if_due(self) -> None:
        verdict = self._verdict
        is_due = verdict.agrees and verdict.index >= self._fenced_index and self._applied_index() >= self._reached
        if self.is_fenced and is_due and not self._opening:
            self._opening = True
            self._erase().addCallbacks(self._erased, self._not_stored)

    def _erased(self, _: None) -> None:
        self._opening = False
        if not self._verdict.agrees:
            self._store(self._fenced_index).addErrback(self._not_stored)
            return
        self.is_fenced = self.was_replaced = False
        self.relapses = 0
        self._log.info(
            "{node_id}: the state at index {index} is that of the majority; it serves again",
            node_id=self._identity.node_id,
            index=self._verdict.index,
        )
        for listener in self._opened:
            listener()

    def _not_stored(self, failure: Failure) -> None:
        if failure.value is not None and not failure.check(ShuttingDown):
            self._fatal(failure.value)

    # -- the driver's turn ---------------------------------------------------------------------------------------

    def soft_state_changed(self, state: SoftState) -> None:
        """A leader that may not serve gives way with the next tick."""

    def tick(self) -> None:
        """Ask again what got no answer, and do what a closed fence demands of a leader."""
        self._ticks += 1
        is_time = self._ticks % self._election_ticks == 0
        if is_time:
            self._notes.keep_only(self._node.configuration.members.keys())
            self._judge()
            self._tell_all(again=True)
        self._watch_tie()
        if is_time and not self.is_fenced:
            self._ask_for_notes()
        if self.is_fenced:
            self._open_if_due()
            self._give_way(is_time=is_time)

    def _watch_tie(self) -> None:
        """A tie is one only after an election timeout: the note that decides may be on its way."""
        self._tied_ticks = self._tied_ticks + 1 if self._verdict.tied_index else 0
        is_tied = self._tied_ticks >= self._election_ticks
        if is_tied is self.is_tied:
            return
        self.is_tied = is_tied
        if is_tied:
            self._log.error(
                "{node_id}: the states of the nodes differ at index {index} and no majority agrees on one; writes stop",
                node_id=self._identity.node_id,
                index=self._verdict.tied_index,
                alarm="digest_tie",
            )
            self._interrupt(DigestTie)
        else:
            self._log.info("{node_id}: a majority agrees on a state again", node_id=self._identity.node_id)

    def _ask_for_notes(self) -> None:
        """As leader, let everybody take a note where those there are differ, and another one could decide.

        A voter that began behind an index has no note there, and no write follows where a tie has stopped them.
        """
        node = self._node
        configuration = node.committed_configuration()[0]
        index = self._notes.disputed(configuration.voters, configuration.outgoing_voters)
        if node.role is not Role.LEADER or index <= self._disputed_index:
            return
        lacking = [name for name in configuration.voters if self._notes.digest_at(name, index) is None]
        if self._verdict.tied_index and not any(self._is_heard(name) for name in lacking):
            return
        self._disputed_index = index
        self._checkpoint()

    def _is_heard(self, name: str) -> bool:
        if name == self._node.node_id:
            return True
        progress = self._node.progress().get(name)
        return progress is not None and progress.ticks_since_contact < self._election_ticks

    def _give_way(self, *, is_time: bool) -> None:
        node = self._node
        if node.role is not Role.LEADER or node.transferring_to is not None:
            return
        others = (node.configuration.voters | node.configuration.outgoing_voters) - {node.node_id}
        if not others:
            # The only voter is its own majority: its state is right by definition, as soon as it is noted.
            if is_time:
                self._checkpoint()
            return
        try:
            node.transfer_leadership(None)
        except (Conflict, NotLeader) as reason:
            self._log.debug("leadership stays here for now: {reason}", reason=reason)
        else:
            self._wake()

    def stop(self) -> None:
        """Ask nobody any more."""
        self._stopped = True


def _claim(document: Any) -> tuple[str, int, str]:
    """Return member, index and digest (empty for none) of a message about a note.

    :raises BadRequest: it is none.
    """
    if not isinstance(document, Mapping):
        raise BadRequest("a note: must be an object")
    member, index, digest = document.get("member"), document.get("index"), document.get("digest")
    if type(member) is not str or type(digest) is not str or len(digest) > 64:
        raise BadRequest("a note: member and digest must be short texts")
    if type(index) is not int or not 0 < index < 2**63:
        raise BadRequest(f"a note: index must be a positive number, found {index!r}")
    return member, index, digest
