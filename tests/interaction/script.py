"""The language of the interaction scripts.

A script is a sequence of blocks with a blank line between two: prose in lines that begin with ``#``, commands, a line
``----``, and what the commands made the servers do. Commands:

====================================== ==========================================================================
``cluster a b c [learners=d]``         start servers with empty disks
``disk a term=2 log=1,1,2 [vote=b]``   before ``cluster``: what the disk of a server holds (terms of its entries)
``silence a``                          nothing is heard until the election timeout of ``a`` passes
``tick a 3``                           so many ticks go by on ``a``
``deliver [a b]``                      everything under way now (from a to b) arrives, and nothing of what it causes
``lose a b``                           what is under way from a to b is lost
``shorten a b 1``                      AppendEntries under way from a to b carry no more than so many entries
``sync a``                             all writes of ``a`` reach its disk
``settle``                             deliver and sync until nothing moves
``quietly COMMAND``                    carry out a command without a transcript
``cut a`` / ``heal``                   cut all links of a server / mend all
``close b a``                          ``b`` sees ``a`` close its connections
``early b``                            the moment comes in which ``b`` may campaign because its leader is gone
``crash a`` / ``start a``              kill a server, with what was not synced / start it again
``propose a x``                        ask a server to replicate a payload
``change a voters=a,b [learners=c]``   ask a server for a configuration
``transfer a b``                       ask a server to hand leadership to another
``read a``                             ask a server for a read index
``snapshot a``                         take a snapshot of what was applied and compact the log
``send-snapshot``                      carry the snapshots that are due
``show``                               where every server stands
====================================== ==========================================================================
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from typing import Any

from raftkv.errors import RaftKVError
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import AppendEntries, Entry, EntryKind, HardState, Message
from raftkv.raft.ready import Ready, Write
from tests.raft.cluster import Cluster, MemoryDisk, configuration, log_of


class Script:
    """The servers of one script, and what they have done since the transcript was last taken."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._disks: dict[str, MemoryDisk] = {}
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None, "a script begins with the command cluster"
        return self._cluster

    def run(self, command: str) -> list[str]:
        """Carry out a command; return the lines of its transcript."""
        name, *arguments = shlex.split(command)
        if name == "quietly":
            self.run(" ".join(arguments))
            return []
        positional = [argument for argument in arguments if "=" not in argument]
        named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
        action: Callable[..., None] = getattr(self, "do_" + name.replace("-", "_"))
        try:
            action(*positional, **named)
        except RaftKVError as error:
            self._lines.append(f"{type(error).__name__}: {error}")
        lines, self._lines = self._lines, []
        return lines

    # -- commands ----------------------------------------------------------------------------------------------------

    def do_disk(self, name: str, *, term: str, log: str = "", vote: str | None = None) -> None:
        disk = self._disks[name] = MemoryDisk()
        disk.hard_state = HardState(term=int(term), voted_for=vote)
        disk.entries = list(log_of(*map(int, log.split(",")))) if log else []

    def do_cluster(self, *names: str, learners: str = "", **settings: str) -> None:
        spare = tuple(learners.split(",")) if learners else ()
        members = configuration(*names, learners=spare)
        cluster = Cluster(members=members, heard=self._heard, **{key: int(value) for key, value in settings.items()})
        self._cluster = cluster
        for name in (*names, *spare):
            cluster.add(name, self._disks.get(name))

    def do_silence(self, name: str) -> None:
        role, term = self.cluster[name].role, self.cluster[name].current_term
        while (self.cluster[name].role, self.cluster[name].current_term) == (role, term):
            self.cluster.tick(name)

    def do_tick(self, name: str, count: str = "1") -> None:
        self.cluster.tick(name, count=int(count))

    def do_deliver(self, sender: str | None = None, to: str | None = None) -> None:
        for message in self._take(sender, to):
            self.cluster.deliver(message)

    def do_lose(self, sender: str, to: str) -> None:
        for message in self._take(sender, to):
            self._lines.append(f"lost: {said(message)}")

    def do_shorten(self, sender: str, to: str, count: str) -> None:
        network = self.cluster.network
        for position, message in enumerate(network):
            if isinstance(message, AppendEntries) and (message.sender, message.to) == (sender, to):
                network[position] = replace(message, entries=message.entries[: int(count)])

    def do_sync(self, name: str) -> None:
        self.cluster.finish_writes(name)

    def do_settle(self) -> None:
        self.cluster.settle()

    def do_cut(self, name: str) -> None:
        self.cluster.isolate(name)

    def do_heal(self) -> None:
        self.cluster.heal()

    def do_close(self, name: str, peer: str) -> None:
        self.cluster.do(name, lambda node: node.report_closed(peer))

    def do_early(self, name: str) -> None:
        self.cluster.do(name, lambda node: node.campaign_early())

    def do_crash(self, name: str) -> None:
        self.cluster.crash(name)

    def do_start(self, name: str) -> None:
        self.cluster.start(name)

    def do_propose(self, name: str, payload: str) -> None:
        self.cluster.propose(name, payload.encode())

    def do_change(self, name: str, *, voters: str, learners: str = "") -> None:
        spare = tuple(learners.split(",")) if learners else ()
        target = configuration(*voters.split(","), learners=spare)
        for member in sorted(target.members):
            if member not in self.cluster.servers:
                self.cluster.add(member, None)
        self.cluster.do(name, lambda node: node.propose_configuration(target))

    def do_transfer(self, name: str, to: str) -> None:
        self.cluster.do(name, lambda node: node.transfer_leadership(to))

    def do_read(self, name: str) -> None:
        self.cluster.read(name)

    def do_snapshot(self, name: str) -> None:
        index = self.cluster.take_snapshot(name)
        self._lines.append(f"{name}: snapshot up to {index}, log from {self.cluster[name].first_index}")

    def do_send_snapshot(self) -> None:
        due, self.cluster.snapshots_due = self.cluster.snapshots_due, []
        for leader, peer in due:
            self.cluster.send_snapshot(leader, peer)

    def do_show(self) -> None:
        for name in self.cluster.running:
            node = self.cluster[name]
            terms = ",".join(str(node.term_at(index)) for index in range(node.first_index, node.last_index + 1))
            self._lines.append(
                f"{name}: {node.role.value} in term {node.current_term}, log from {node.first_index}: [{terms}], "
                f"stable {node.stable_index}, committed {node.commit_index}"
            )

    def _take(self, sender: str | None, to: str | None) -> list[Message]:
        network = self.cluster.network
        taken = [m for m in network if sender in (None, m.sender) and to in (None, m.to)]
        network[:] = [m for m in network if not any(m is one for one in taken)]
        return taken

    # -- the transcript ----------------------------------------------------------------------------------------------

    def _heard(self, name: str, ready: Ready) -> None:
        say = self._lines.append
        for event in ready.events:
            say(f"{name}: {event}")
        if ready.soft_state is not None:
            soft = ready.soft_state
            following = f", follows {soft.leader}" if soft.leader not in (None, name) else ""
            say(f"{name}: {soft.role.value.replace('_', '-')} in term {soft.term}{following}")
        if ready.configuration_changed:
            say(f"{name}: {described(self.cluster[name].configuration)}")
        for message in ready.messages:
            say(said(message))
        for peer in ready.send_snapshots:
            say(f"{name}: owes {peer} a snapshot")
        if ready.write is not None:
            say(f"{name}: writes {written(ready.write)}")
        if ready.committed:
            say(f"{name}: applies {' '.join(map(short, ready.committed))}")
        for read in ready.reads:
            answer = "must be asked anew" if read.index is None else f"waits for {read.index}"
            say(f"{name}: read {read.context} {answer}")


def said(message: Message) -> str:
    """Return a message as a line, without the fields that have their default."""
    facts = [f"{message.sender} -> {message.to} {type(message).__name__}", f"term={message.term}"]
    for field in fields(message):
        value: Any = getattr(message, field.name)
        if field.name in ("term", "sender", "to", "to_incarnation"):
            continue
        if field.default is MISSING or value != field.default:
            if field.name == "entries":
                value = ",".join(map(short, value))
            facts.append(f"{field.name}={value}")
    return " ".join(facts)


def short(entry: Entry) -> str:
    """Return an entry as index/term and what it holds."""
    what = entry.payload.decode() if entry.kind is EntryKind.COMMANDS else entry.kind.name.lower()
    return f"{entry.index}/{entry.term}:{what}"


def written(write: Write) -> str:
    """Return what a write holds."""
    parts = [str(write.write_id)]
    if write.hard_state is not None:
        parts.append(f"term={write.hard_state.term} voted_for={write.hard_state.voted_for}")
    if write.snapshot is not None:
        parts.append(f"snapshot={write.snapshot.index}/{write.snapshot.term}")
    return " ".join(parts + [short(entry) for entry in write.entries])


def described(members: Configuration) -> str:
    """Return a configuration in a few words."""
    sides = {label: sorted(getattr(members, label)) for label in ("outgoing_voters", "learners", "learners_next")}
    rest = [f"; {label.replace('_', ' ')} {','.join(names)}" for label, names in sides.items() if names]
    return f"voters {','.join(sorted(members.voters))}{''.join(rest)}"


def rewritten(text: str) -> str:
    """Return a script with the transcripts that its commands make now."""
    script = Script()
    return "\n\n".join(_rewritten_block(script, block) for block in text.strip().split("\n\n")) + "\n"


def _rewritten_block(script: Script, block: str) -> str:
    told = block.split("\n----")[0].splitlines()
    commands = [line for line in told if not line.startswith("#")]
    transcript = [line for command in commands for line in script.run(command)]
    return "\n".join([*told, "----", *transcript]) if commands else "\n".join(told)
