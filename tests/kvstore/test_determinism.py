"""B40: nothing but the log decides what the state is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import raftkv

SCRIPT = """
import hashlib, random
from raftkv.kvstore import Store
from raftkv.kvstore.commands import *

chance = random.Random(7)
store = Store()
answers = hashlib.sha256()
for index in range(1, 60):
    batch = []
    for _ in range(60):
        key = b"%d" % chance.randrange(1500)
        command = put(key, chance.randbytes(8)) if chance.random() < 0.8 else delete(key)
        if chance.random() < 0.5:
            client = b"client%d" % chance.randrange(40)
            command = in_session(client, chance.randrange(index * 30), command)
        batch.append(command)
    if index % 20 == 0:
        batch.append(expire_sessions(index * 10 - 30))
    answers.update(repr(store.apply(index, pack_batch(index * 10, 0, batch))).encode())
taken = hashlib.sha256()
for chunk in store.capture():
    taken.update(chunk)
print(store.digest(), store.revision, answers.hexdigest(), taken.hexdigest())
"""


class DeterminismTests(SynchronousTestCase):
    def run_with(self, **environment: str) -> str:
        """Run the script in a Python of its own and return what it prints."""
        root = str(Path(raftkv.__file__).parent.parent)
        return subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONPATH": root, **environment},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def test_hash_seed_and_locale(self) -> None:
        """B40: processes with other hash seeds, locales and time zones have equal answers, digests and snapshots."""
        outputs = {
            self.run_with(PYTHONHASHSEED="0"),
            self.run_with(PYTHONHASHSEED="1", LC_ALL="C", TZ="Asia/Tokyo"),
            self.run_with(PYTHONHASHSEED="4294967295", PYTHONOPTIMIZE="1"),
        }
        self.assertEqual(len(outputs), 1, outputs)
