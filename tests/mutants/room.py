"""Violations of the rules about room on the disk: who leads, what is refused, and what is kept in reserve (B50)."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

BATCHING = "raftkv/server/batching.py"
DISKSPACE = "raftkv/server/diskspace.py"
ELECTION = "raftkv/raft/election.py"
FOLLOWER = "raftkv/raft/follower.py"
HEALTH = "raftkv/server/assembly/health.py"
LEADERSHIP = "raftkv/raft/leadership.py"
LOG = "raftkv/persistence/log.py"
PROPOSALS = "raftkv/server/proposals.py"
READS = "raftkv/server/reads.py"
REPLICATION = "raftkv/raft/replication.py"
RESERVE = "raftkv/persistence/reserve.py"
ROOM = "raftkv/raft/room.py"
SNAPSHOTTER = "raftkv/server/snapshotter.py"
STATE = "raftkv/raft/state.py"
STORAGE = "raftkv/persistence/storage.py"
SUCCESSION = "raftkv/raft/succession.py"
TAKING = "raftkv/snapshot/taking.py"
TRANSFERS = "raftkv/server/transfers.py"

CORE = ("tests.raft.test_room",)
DOOR = ("tests.server.test_frugality",)
RESERVES = ("tests.persistence.test_reserve",)
WATCH = ("tests.server.test_diskspace",)

MUTANTS = (
    Mutant(
        name="keeps-leading-without-room",
        rule="A leader whose disk is nearly full hands over while it can.",
        reference="B50",
        edits=(Edit(LEADERSHIP, "        self._yields_to_room()\n        self._quorum", "        self._quorum"),),
        hints=CORE,
    ),
    Mutant(
        name="leadership-goes-round",
        rule="A leader without room tries once at each level to hand over.",
        reference="B50",
        edits=(Edit(LEADERSHIP, "            self._yielded_at = self._state.room.level\n", ""),),
        hints=CORE,
    ),
    Mutant(
        name="successor-without-room",
        rule="A leader without room hands over to nobody who has no more.",
        reference="B50",
        edits=(Edit(SUCCESSION, " and progress.room < roomier_than and", " and"),),
        hints=CORE,
    ),
    Mutant(
        name="successor-that-is-away",
        rule="A leader without room hands over to nobody who is not heard.",
        reference="B50, B10",
        edits=(Edit(SUCCESSION, " < roomier_than and not is_silent(progress)", " < roomier_than"),),
        hints=CORE,
    ),
    Mutant(
        name="campaigns-without-room",
        rule="A server whose disk has less room lets all others campaign first.",
        reference="B50",
        edits=(Edit(ELECTION, "2 * self._state.settings.election_ticks * self._state.room.level", "0"),),
        hints=CORE,
    ),
    Mutant(
        name="writes-what-has-no-room",
        rule="A leader takes no write that needs room while the disks of too many are full.",
        reference="B50",
        edits=(Edit(LEADERSHIP, "(needs_room and self.lacks_room) or not", "not"),),
        hints=CORE,
    ),
    Mutant(
        name="refused-though-another-may-lead",
        rule="Where somebody with room may lead instead, what needs room waits for that one.",
        reference="our design",
        edits=(Edit(LEADERSHIP, "            if not waits:\n                return True", "            return True"),),
        hints=CORE,
    ),
    Mutant(
        name="own-full-disk-ignored",
        rule="A leader whose own disk is full takes no write that needs room.",
        reference="B50",
        edits=(Edit(LEADERSHIP, "            if not waits:\n                return True\n", ""),),
        hints=CORE,
    ),
    Mutant(
        name="leader-beyond-its-budget",
        rule="A leader whose disk is full appends no more than fits into what it kept in reserve.",
        reference="B50",
        edits=(Edit(LEADERSHIP, " or not self._state.room.fits(len(payload)):", ":"),),
        hints=CORE,
    ),
    Mutant(
        name="full-voters-counted",
        rule="A voter whose disk is full does not help to commit.",
        reference="B50",
        edits=(Edit(REPLICATION, "able = (heard | {state.node_id}) - full", "able = heard | {state.node_id}"),),
        hints=CORE,
    ),
    Mutant(
        name="silent-voters-counted",
        rule="A voter that is not heard does not make up for one whose disk is full.",
        reference="B50",
        edits=(
            Edit(
                REPLICATION,
                " if each.ticks_since_contact < state.settings.election_ticks}",
                "}",
            ),
        ),
        hints=CORE,
    ),
    Mutant(
        name="silence-taken-for-a-full-disk",
        rule="Where no disk is full nothing is refused, however few are heard.",
        reference="our design",
        edits=(Edit(REPLICATION, "        if not full & voters:\n            return False\n", ""),),
        hints=CORE,
    ),
    Mutant(
        name="full-follower-not-spared",
        rule="A follower whose disk is full gets nothing that the others do without it.",
        reference="B50",
        edits=(Edit(REPLICATION, " and not self._is_spared(progress)", ""),),
        hints=CORE,
    ),
    Mutant(
        name="full-follower-always-spared",
        rule="A follower whose disk is full gets the little that nobody could commit without it.",
        reference="B50",
        edits=(Edit(REPLICATION, "progress.room is Room.NONE and not self.lacks_room", "progress.room is Room.NONE"),),
        hints=CORE,
    ),
    Mutant(
        name="snapshot-for-a-full-disk",
        rule="A follower whose disk is full is offered no snapshot.",
        reference="our design",
        edits=(
            Edit(
                REPLICATION,
                "if progress.recent_active and progress.room is not Room.NONE:",
                "if progress.recent_active:",
            ),
        ),
        hints=CORE,
    ),
    Mutant(
        name="dropped-entries-acknowledged",
        rule="What a full disk has no room for is not acknowledged.",
        reference="B4, B50",
        edits=(
            Edit(
                FOLLOWER,
                "    last_verified = message.prev_log_index + _take_over(state, message.entries)\n",
                "    _take_over(state, message.entries)\n"
                "    last_verified = min(message.prev_log_index + len(message.entries), state.log.last_index + 1)\n",
            ),
        ),
        hints=CORE,
    ),
    Mutant(
        name="truncates-without-room",
        rule="Conflicting entries go only where something comes in their place.",
        reference="our design",
        edits=(
            Edit(
                FOLLOWER,
                "            if fitting:\n                state.truncate_from",
                "            if True:\n                state.truncate_from",
            ),
        ),
        hints=CORE,
    ),
    Mutant(
        name="budget-never-spent",
        rule="What is appended is taken off the budget of a full disk.",
        reference="B50",
        edits=(
            Edit(
                STATE,
                "        self.room.spend(entries, self.log.append(entries))\n",
                "        self.log.append(entries)\n",
            ),
        ),
        hints=CORE,
    ),
    Mutant(
        name="no-first-entry-without-room",
        rule="A new leader's first entry is appended whatever the budget: else nobody could read.",
        reference="B50, B29",
        edits=(Edit(ROOM, "if budget.is_exceeded and entry.kind is EntryKind.COMMANDS:", "if budget.is_exceeded:"),),
        hints=CORE,
    ),
    Mutant(
        name="refusal-behind-the-door",
        rule="What needs room is told apart from what does not before it is proposed.",
        reference="B50",
        edits=(Edit(PROPOSALS, "if lacks_room and needs_room(submission.commands):", "if False:"),),
        hints=DOOR,
    ),
    Mutant(
        name="puts-in-transactions-overlooked",
        rule="A transaction that may put something needs room.",
        reference="B50",
        edits=(Edit(BATCHING, "if needs_room(command[3]) or needs_room(command[4]):", "if needs_room(command[3]):"),),
        hints=DOOR,
    ),
    Mutant(
        name="frugal-writes-refused-together",
        rule="What needs no room is not refused because of what came with it.",
        reference="our design",
        edits=(Edit(PROPOSALS, "        if refused and frugal:\n", "        if False:\n"),),
        hints=DOOR,
    ),
    Mutant(
        name="waits-for-what-is-spared",
        rule="On a full disk a read soon stops to wait for entries that may not come.",
        reference="B50",
        edits=(Edit(READS, "self._node.disk_is_full and self._node.last_index < index", "False"),),
        hints=("tests.server.test_reads",),
    ),
    Mutant(
        name="failed-segment-made-again",
        rule="Want of room is forgiven only where the file takes its room, and never after a write or sync of it.",
        reference="B43",
        edits=(Edit(LOG, "            except NoRoomForFile:\n", "            except StorageError:\n"),),
        hints=RESERVES,
    ),
    Mutant(
        name="half-made-segment-left",
        rule="Of a file that found no room nothing is left.",
        reference="B43",
        edits=(
            Edit(
                LOG,
                "            disk.remove(name)\n        raise NoRoomForFile",
                "            pass\n        raise NoRoomForFile",
            ),
        ),
        hints=RESERVES,
    ),
    Mutant(
        name="reserve-never-released",
        rule="A log without room draws on what was kept in reserve.",
        reference="B50",
        edits=(Edit(LOG, "                if not self._make_room(header.capacity):\n", "                if True:\n"),),
        hints=RESERVES,
    ),
    Mutant(
        name="reserve-of-holes",
        rule="What is kept in reserve has its room on the disk.",
        reference="B50",
        edits=(Edit(RESERVE, "file.allocate(wanted)", "file.truncate(wanted)"),),
        hints=RESERVES,
    ),
    Mutant(
        name="alarm-over-too-early",
        rule="A disk is full until everything can be set aside again.",
        reference="B50",
        edits=(Edit(DISKSPACE, "        if not (found.is_whole and self._reserve.is_whole):", "        if False:"),),
        hints=WATCH,
    ),
    Mutant(
        name="draws-on-the-reserve-unseen",
        rule="The node hears at once that its log lives on the reserve.",
        reference="B50",
        edits=(
            Edit(
                DISKSPACE,
                "        if not self._reserve.is_whole:\n            self._take_at_once()\n",
                "        if False:\n            self._take_at_once()\n",
            ),
        ),
        hints=WATCH,
    ),
    Mutant(
        name="budget-of-the-whole-disk",
        rule="What is free on a full disk is for the snapshot that is to cut the log, and not for the log.",
        reference="B50",
        edits=(
            Edit(
                DISKSPACE,
                "        if level is not Room.NONE:\n            spared",
                "        if True:\n            spared",
            ),
        ),
        hints=WATCH,
    ),
    Mutant(
        name="budget-of-a-full-disk-only",
        rule="A log takes no more between two looks than the last one has found, also where there is room.",
        reference="B50",
        edits=(
            Edit(
                DISKSPACE,
                "        if not self._reserve.size_bytes:\n            return None\n",
                "        if level is not Room.NONE:\n            return None\n",
            ),
        ),
        hints=(*WATCH, "tests.simulation.test_scarcity"),
    ),
    Mutant(
        name="nothing-promised-before-the-first-look",
        rule="A node that starts knows what its log can take before it takes anything.",
        reference="B50",
        edits=(Edit(HEALTH, "    watch.begin()\n", ""),),
        hints=("tests.simulation.test_scarcity",),
    ),
    Mutant(
        name="room-of-who-writes-too",
        rule="What is free is not promised to the log while a snapshot is written.",
        reference="B50",
        edits=(
            Edit(
                DISKSPACE,
                "level is not Room.NONE and not self._others_write()\n",
                "level is not Room.NONE\n",
            ),
        ),
        hints=WATCH,
    ),
    Mutant(
        name="plenty-taken-back",
        rule="On a disk with plenty of room nothing is refused because a snapshot begins.",
        reference="B50",
        edits=(Edit(DISKSPACE, "            if not self._has_plenty:", "            if True:"),),
        hints=WATCH,
    ),
    Mutant(
        name="full-segment-promises-another",
        rule="A segment that is nearly full promises nothing of what is left to a snapshot.",
        reference="B50",
        edits=(Edit(DISKSPACE, "log_bytes=max(found.log_bytes, least_bytes), kept_bytes=0", "kept_bytes=0"),),
        hints=WATCH,
    ),
    Mutant(
        name="full-because-of-a-snapshot",
        rule="A disk does not count as full because of what is left to a snapshot.",
        reference="B50",
        edits=(Edit(DISKSPACE, "        if self._others_write():\n            return False\n", ""),),
        hints=WATCH,
    ),
    Mutant(
        name="reported-meanwhile-and-promised-again",
        rule="What is written and reported while somebody asks for the log's room is not promised again.",
        reference="B50",
        edits=(Edit(STORAGE, "log.room_bytes - queued_bytes", "log.room_bytes - self._queued_bytes"),),
        hints=("tests.persistence.test_storage",),
    ),
    Mutant(
        name="entries-since-the-look-forgotten",
        rule="What was appended while somebody looked at the disk is taken off what was found.",
        reference="B50",
        edits=(
            Edit(ROOM, "        if self._unseen is None:\n            return", "        if True:\n            return"),
        ),
        hints=CORE,
    ),
    Mutant(
        name="segments-not-counted",
        rule="An entry that does not fit into a segment takes a whole one, however small it is.",
        reference="B50",
        edits=(Edit(ROOM, "more - segments * self.segment_bytes", "more - segments * used_at_least"),),
        hints=CORE,
    ),
    Mutant(
        name="queue-not-counted",
        rule="What waits to be written has its segments before anything that comes after it.",
        reference="B50",
        edits=(
            Edit(
                STORAGE,
                "0 if log is None else log.room_bytes - queued_bytes",
                "0 if log is None else max(0, log.room_bytes - queued_bytes)",
            ),
        ),
        hints=("tests.persistence.test_storage",),
    ),
    Mutant(
        name="part-of-the-log-given-away",
        rule="The log's part of the reserve stays set aside until the log needs it, whatever else uses the disk.",
        reference="B50",
        edits=(
            Edit(RESERVE, "        kept = min(present, self._log_share_bytes) - log_bytes\n", "        kept = 0\n"),
        ),
        hints=RESERVES,
    ),
    Mutant(
        name="folder-in-doubt-forgiven",
        rule="A snapshot that could not be given its name stops the node.",
        reference="B43, B44",
        edits=(Edit(TAKING, "is_nameless = self._writer is None or not self._writer.is_whole", "is_nameless = True"),),
        hints=("tests.snapshot.test_slices",),
    ),
    Mutant(
        name="failed-transfer-gone-on-with",
        rule="What a failed write or sync has left of a snapshot that arrives is removed.",
        reference="B43",
        edits=(Edit(TRANSFERS, "self._calls.run(receiver.abort).addBoth", "succeed(None).addBoth"),),
        hints=("tests.server.test_transfers",),
    ),
    Mutant(
        name="failed-snapshot-unseen",
        rule="A snapshot that could not be written raises an alarm.",
        reference="our design",
        edits=(Edit(SNAPSHOTTER, "self.has_failed = self._lacked_room = True", "self._lacked_room = True"),),
        hints=("tests.server.test_snapshotter",),
    ),
)
