"""Violations of what a watch promises."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

ASSEMBLED_NODE = "raftkv/server/assembly/node.py"
CATCHUP = "raftkv/server/watching/catchup.py"
EVENTSTREAM = "raftkv/web/eventstream.py"
FRESH = "raftkv/server/watching/fresh.py"
HISTORY = "raftkv/kvstore/history.py"
HUB = "raftkv/server/watching/hub.py"
INDEX = "raftkv/server/watching/index.py"
POLLING = "raftkv/web/polling.py"
REPLICA = "raftkv/server/replica.py"
STREAMING = "raftkv/web/streaming.py"
WATCH = "raftkv/server/watching/watch.py"
WEB = "raftkv/web/watching.py"

HUB_TESTS = ("tests.server.watching.test_hub", "tests.server.watching.test_model")
WEB_TESTS = ("tests.web.test_watching",)
STREAM_TESTS = ("tests.web.test_streaming",)

MUTANTS = (
    Mutant(
        name="watch-begins-in-the-past",
        rule="A watch without a revision begins behind a linearizable read.",
        reference="B54",
        edits=(
            Edit(
                HUB,
                "            self._barrier(partial(self._may_begin, watch))\n",
                "            self._may_begin(watch, None)\n",
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-of-another-history",
        rule="A watch that was told of more than there is has followed another history, and is told so.",
        reference="B61",
        edits=(Edit(HUB, "        elif first > revision + 1:\n", "        elif False:\n"),),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-from-the-future-told-the-past",
        rule="A watch from a revision that is yet to be is told nothing older.",
        reference="B58",
        edits=(Edit(HUB, "        if revision > self._revision + 1:\n", "        if False:\n"),),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-skips-what-was-compacted",
        rule="What was compacted before it was told is never skipped.",
        reference="B57",
        edits=(
            Edit(
                CATCHUP,
                "                self._host.compacted(watch, compact_revision)\n",
                "                watch.move_to(compact_revision)\n",
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-from-the-compact-revision-refused",
        rule="A watch can begin at the compact revision.",
        reference="B57",
        edits=(
            Edit(
                HUB,
                "        if first < self._store().compact_revision:\n",
                "        if first <= self._store().compact_revision:\n",
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-progress-ahead-of-events",
        rule="Progress is never ahead of the events that were told.",
        reference="B53",
        edits=(
            Edit(
                HUB,
                "            return pending.revision - 1 if pending else max(self._revision, watch.revision - 1)\n",
                "            return max(self._revision, watch.revision - 1)\n",
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-progress-ahead-of-the-past",
        rule="Progress of a watch that catches up is no further than what it was told.",
        reference="B53",
        edits=(
            Edit(
                CATCHUP,
                "            return max(pending[0].revision, watch.revision) - 1\n",
                "            return max(self._revision, watch.revision) - 1\n",
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-progress-inside-a-revision",
        rule="The events of a revision come together, without progress in between.",
        reference="B60",
        edits=(Edit(HUB, "        if watch.place:\n            return", "        if False:\n            return"),),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-told-twice",
        rule="What was told is not told again by the pass that others need.",
        reference="B55",
        edits=(
            Edit(
                CATCHUP,
                "if watch.revision < revision or (watch.revision == revision and watch.place <= place):",
                "if True:",
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-of-a-slow-reader-loses-events",
        rule="A reader that had no room is told everything that it missed.",
        reference="B56",
        edits=(
            Edit(
                WATCH,
                "            self.move_to(last.revision + 1)\n",
                "            self.move_to(last.revision + 2)\n",
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-part-told-as-a-whole",
        rule="A part of a revision is not told as if it were the whole.",
        reference="B60",
        edits=(
            Edit(
                CATCHUP, "            is_whole = part[-1].revision < self._revision\n", "            is_whole = True\n"
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-forgets-what-waits",
        rule="What waits to be told is not lost when a watch has to be told from the history instead.",
        reference="B56",
        edits=(
            Edit(
                HUB,
                "watch.move_to(pending.revision if pending else self._revision + 1 if revision is None else revision)",
                "watch.move_to(self._revision + 1 if revision is None else revision)",
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-misses-a-snapshot",
        rule="What a snapshot brought that was not applied here is told from the history in it.",
        reference="B61",
        edits=(Edit(ASSEMBLED_NODE, " watches.restored,", ""),),
        hints=("tests.server.test_watches",),
    ),
    Mutant(
        name="watch-of-a-wrong-state",
        rule="A node that has found its state to be wrong tells nothing any more.",
        reference="our design",
        edits=(Edit(REPLICA, "        self._watches.interrupt(reason)\n", ""),),
        hints=("tests.server.test_watches",),
    ),
    Mutant(
        name="watch-never-cut-off",
        rule="A reader without room is cut off after a while.",
        reference="our design",
        edits=(
            Edit(
                HUB,
                "            if now < watch.full_since + self._limits.stall_seconds:\n",
                "            if True:\n",
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-cut-off-ahead-of-events",
        rule="A reader that is cut off is told how far it was told, no further.",
        reference="B56",
        edits=(
            Edit(HUB, "self._end(watch, Overflow(self.told(watch)))", "self._end(watch, Overflow(self._revision))"),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-waits-for-those-far-behind",
        rule="A watch that is nearly up to date does not wait for one that begins a long way back.",
        reference="our design",
        edits=(
            Edit(
                HUB,
                "            lane = self._near if self._revision - revision < NEAR_REVISIONS else self._far\n",
                "            lane = self._far\n",
            ),
        ),
        hints=HUB_TESTS,
        survives_because="A watch that is up to date is told without a pass, and one that is not waits for one other "
        "pass at the most: nobody is promised when it is told.",
    ),
    Mutant(
        name="watch-of-deletes-told-puts",
        rule="A watch is told only the kinds of change that it asked for.",
        reference="our design",
        edits=(
            Edit(
                INDEX,
                "            found = [group for group in groups.values() if group.span.kinds & kind]\n",
                "            found = [*groups.values()]\n",
            ),
        ),
        hints=("tests.server.watching.test_index", *HUB_TESTS),
    ),
    Mutant(
        name="watch-previous-value-forgotten",
        rule="An event tells what the key held before.",
        reference="our design",
        edits=(
            Edit(
                HISTORY,
                "Change(key, record, before if type(before) is tuple else None) for key",
                "Change(key, record, None) for key",
            ),
        ),
        hints=("tests.kvstore.test_history", *HUB_TESTS),
    ),
    Mutant(
        name="watch-turn-without-end",
        rule="What a turn tells is bounded, however many watch.",
        reference="our design",
        edits=(
            Edit(
                FRESH,
                "        for watch in [*islice(self._events, TURN_CALLS)]:\n",
                "        for watch in [*self._events]:\n",
            ),
        ),
        hints=HUB_TESTS,
    ),
    Mutant(
        name="watch-every-event-bears-an-id",
        rule="Only the last event of a revision bears its id, so that a stream that breaks resumes with all of them.",
        reference="B60",
        edits=(
            Edit(
                EVENTSTREAM,
                "with_previous=with_previous, is_last=False) for event in events[:-1]]",
                "with_previous=with_previous, is_last=True) for event in events[:-1]]",
            ),
        ),
        hints=WEB_TESTS,
    ),
    Mutant(
        name="watch-resumes-at-its-last-event",
        rule="A stream resumes behind the last id.",
        reference="B55",
        edits=(Edit(WEB, "    resumed = int(raw_last) + 1\n", "    resumed = max(1, int(raw_last))\n"),),
        hints=WEB_TESTS,
    ),
    Mutant(
        name="watch-fills-the-memory",
        rule="A reader that does not read is told no more than there is room for.",
        reference="our design",
        edits=(Edit(EVENTSTREAM, "        return body.has_room\n", "        return True\n"),),
        hints=WEB_TESTS,
    ),
    Mutant(
        name="watch-stays-without-its-client",
        rule="A client that hangs up takes its watch with it.",
        reference="B66",
        edits=(
            Edit(
                EVENTSTREAM,
                "        self._body = None\n        if self.watch is not None:\n            self.watch.cancel()\n",
                "        self._body = None\n",
            ),
        ),
        hints=WEB_TESTS,
    ),
    Mutant(
        name="poll-answers-a-part",
        rule="The events of a revision are never divided between two polls.",
        reference="B60",
        edits=(
            Edit(
                POLLING,
                "        if is_whole and self._size_bytes >= ENOUGH_BYTES:\n",
                "        if self._size_bytes >= ENOUGH_BYTES:\n",
            ),
        ),
        hints=WEB_TESTS,
    ),
    Mutant(
        name="part-of-an-answer-looks-whole",
        rule="An answer that breaks off in the middle never looks like one that was told to its end.",
        reference="our design",
        edits=(Edit(STREAMING, "        self._lane.break_off()\n", "        self._lane.body_finished()\n"),),
        hints=STREAM_TESTS,
    ),
    Mutant(
        name="streams-hold-up-the-stop",
        rule="A stopping server ends its streams.",
        reference="our design",
        edits=(Edit("raftkv/web/site.py", "        self.api.open_bodies.stop()\n", ""),),
        hints=STREAM_TESTS,
    ),
)
