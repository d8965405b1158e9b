"""Violations of the rules of the state machine: applied once, the same everywhere, sessions, cluster time, digest."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

CLUSTER_TIME = "raftkv/server/clustertime.py"
DIGEST = "raftkv/kvstore/digest.py"
HOUSEKEEPING = "raftkv/server/housekeeping.py"
RECORDS = "raftkv/kvstore/records.py"
SESSIONS = "raftkv/kvstore/sessions.py"
STORE = "raftkv/kvstore/store.py"

STORE_TESTS = ("tests.kvstore.test_store",)
SESSION_TESTS = ("tests.kvstore.test_sessions",)
DIGEST_TESTS = ("tests.kvstore.test_digest",)

MUTANTS = (
    Mutant(
        name="entry-applied-twice",
        rule="An entry that the state includes is not applied again.",
        reference="B39",
        edits=(
            Edit(STORE, "            self._refuse_again(index)\n        try:\n", "            pass\n        try:\n"),
        ),
        hints=STORE_TESTS,
    ),
    Mutant(
        name="unknown-command-skipped",
        rule="A command that a node does not know stops it rather than being skipped.",
        reference="our design, B38",
        edits=(Edit(STORE, 'raise ValueError(f"unknown command {code!r}")', "return (OK, self._records.revision)"),),
        hints=STORE_TESTS,
    ),
    Mutant(
        name="condition-ignored",
        rule="A write whose condition does not hold changes nothing.",
        reference="our design",
        edits=(
            Edit(
                RECORDS,
                "if expect in (mod_revision, ANY) or (expect == EXISTS and record is not None):",
                "if True:",
            ),
        ),
        hints=STORE_TESTS,
    ),
    Mutant(
        name="revision-for-nothing",
        rule="A command that changes no record takes no revision.",
        reference="our design, B59",
        edits=(
            Edit(
                RECORDS,
                "            return (OK, self.revision, False)\n",
                "            self.revision += 1\n            return (OK, self.revision, False)\n",
            ),
        ),
        hints=STORE_TESTS,
    ),
    Mutant(
        name="repeated-write-applied-again",
        rule="A write of a session that is sent again is answered as before, and not applied again.",
        reference="section 8, B63",
        edits=(
            Edit(STORE, "            if kept is not None:\n                return recall(kept, fingerprint)\n", ""),
        ),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="forgotten-write-applied-again",
        rule="A write too old for its answer to be known is refused, not applied.",
        reference="section 8, B63",
        edits=(Edit(STORE, "if sequence <= session.highest - SESSION_WINDOW:", "if False:"),),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="window-refuses-one-late",
        rule="The window of a session is exactly as long as the format says.",
        reference="our design, B63",
        edits=(
            Edit(
                STORE,
                "if sequence <= session.highest - SESSION_WINDOW:",
                "if sequence < session.highest - SESSION_WINDOW:",
            ),
        ),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="window-forgets-one-early",
        rule="The answers in the window of a session are all kept.",
        reference="our design, B63",
        edits=(
            Edit(
                SESSIONS,
                "gone = range(max(floor - moved, -1) + 1, floor + 1)",
                "gone = range(max(floor - moved, -1) + 1, floor + 2)",
            ),
        ),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="window-moved-by-one-forgets-one-early",
        rule="The answers in the window of a session are all kept, however it moves.",
        reference="our design, B63",
        edits=(
            Edit(
                SESSIONS,
                "answers, left = session.answers, sequence - SESSION_WINDOW\n",
                "answers, left = session.answers, sequence - SESSION_WINDOW + 1\n",
            ),
        ),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="row-of-one-client-takes-in-others",
        rule="Numbers belong to one client, wherever its commands stand in an entry.",
        reference="our design, B63",
        edits=(Edit(SESSIONS, "if session is None or client_id != present:\n", "if session is None:\n"),),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="row-not-counted-before-others",
        rule="The digest counts what a session holds when anything else of the entry is carried out.",
        reference="our design",
        edits=(
            Edit(
                SESSIONS,
                "            self._add(session, grown)\n            session, grown = None, 0\n",
                "            session = session if command[0] == SESSION else None\n",
            ),
        ),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="reused-number-answered",
        rule="A sequence number that is used for another write is refused.",
        reference="our design, B63",
        edits=(Edit(SESSIONS, "    if kept[:FINGERPRINT_BYTES] != fingerprint:\n", "    if False:\n"),),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="repeat-does-not-renew",
        rule="A repeated write renews its session, whose last write time is part of the state.",
        reference="our design, B34",
        edits=(Edit(SESSIONS, "            session.last_write_ms = now_ms\n", ""),),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="expires-one-early",
        rule="A session ends only when its last write lies before the time that the command says.",
        reference="our design, B34",
        edits=(Edit(SESSIONS, "if item[1].last_write_ms < before_ms]", "if item[1].last_write_ms <= before_ms]"),),
        hints=SESSION_TESTS,
    ),
    Mutant(
        name="sessions-expire-too-early",
        rule="A session lives for its whole time to live.",
        reference="our design, B34",
        edits=(
            Edit(
                HOUSEKEEPING,
                "before_ms = store.cluster_time_ms - self._ttl_ms",
                "before_ms = store.cluster_time_ms - self._ttl_ms // 2",
            ),
        ),
        hints=("tests.server.test_replica",),
    ),
    Mutant(
        name="sessions-never-expire",
        rule="Idle sessions end.",
        reference="our design, B36",
        edits=(Edit(HOUSEKEEPING, "if before_ms > 0 and store.idle_sessions(before_ms):", "if False:"),),
        hints=("tests.server.test_replica",),
    ),
    Mutant(
        name="state-machine-time-goes-back",
        rule="The time of the state machine never goes back, whatever a leader stamps.",
        reference="our design, B34",
        edits=(Edit(STORE, "if cluster_time_ms > self._cluster_time_ms:", "if True:"),),
        hints=STORE_TESTS,
    ),
    Mutant(
        name="new-leader-starts-time-anew",
        rule="A new leader continues cluster time from what was applied.",
        reference="our design, B34, B36",
        edits=(
            Edit(
                CLUSTER_TIME,
                "self._base_ms = self._last_ms = self._applied_ms()",
                "self._base_ms = self._last_ms = 0",
            ),
            Edit(CLUSTER_TIME, "        if applied > now:\n", "        if False:\n"),
        ),
        hints=("tests.server.test_clustertime",),
    ),
    Mutant(
        name="leaders-time-goes-back",
        rule="The stamps of one leadership never go back, whatever its clock does.",
        reference="our design, B31",
        edits=(
            Edit(
                CLUSTER_TIME,
                "now = max(self._last_ms, self._base_ms + elapsed_ms)",
                "now = self._base_ms + elapsed_ms",
            ),
        ),
        hints=("tests.server.test_clustertime",),
    ),
    Mutant(
        name="leader-ignores-applied-time",
        rule="A leader continues from an earlier leader's entry that turns out to be ahead of it.",
        reference="our design, B34",
        edits=(Edit(CLUSTER_TIME, "        if applied > now:\n", "        if False:\n"),),
        hints=("tests.server.test_clustertime",),
    ),
    Mutant(
        name="digest-ignores-create-revision",
        rule="States that differ in a create revision have different digests.",
        reference="our design",
        edits=(Edit(DIGEST, "CREATED: Final = 0x6A09E667F3BCC909", "CREATED: Final = 0"),),
        hints=DIGEST_TESTS,
    ),
    Mutant(
        name="digest-ignores-version",
        rule="States that differ in the version of a record have different digests.",
        reference="our design",
        edits=(Edit(DIGEST, "VERSION: Final = 0x3C6EF372FE94F82B", "VERSION: Final = 0"),),
        hints=DIGEST_TESTS,
    ),
    Mutant(
        name="digest-ignores-the-last-write",
        rule="States that differ in when a session last wrote have different digests.",
        reference="our design",
        edits=(Edit(DIGEST, "LAST_WRITE: Final = 0x510E527FADE682D1", "LAST_WRITE: Final = 0"),),
        hints=DIGEST_TESTS,
    ),
    Mutant(
        name="digest-ignores-sessions",
        rule="States that differ in a session have different digests.",
        reference="our design",
        edits=(Edit(DIGEST, "SESSIONS: Final = 0x9B05688C2B3E6C1F", "SESSIONS: Final = 0"),),
        hints=DIGEST_TESTS,
    ),
    Mutant(
        name="digest-not-kept-up-by-delete",
        rule="The digest follows every change, also a deletion.",
        reference="our design",
        edits=(Edit(RECORDS, "        self.weight -= token * digest.weight(old)\n", ""),),
        hints=DIGEST_TESTS,
    ),
)
