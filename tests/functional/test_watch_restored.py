"""Watchers of a cluster that is no more, at the one that was made of its backup."""

from __future__ import annotations

import http.client
import json
from typing import Any

from tests.functional.processes import Node
from tests.functional.test_backup import MARGIN, BackupTestCase


def first_events(node: Node, target: str, **headers: str) -> list[dict[str, str]]:
    """Return the events that a stream begins with, up to the first that is no progress, or its end."""
    connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=10)
    events: list[dict[str, str]] = [{}]
    try:
        connection.request("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        if answer.status != 200:
            raise AssertionError(f"{answer.status} {answer.read()!r}")
        while line := answer.readline().decode():
            name, separator, value = line.rstrip("\n").partition(": ")
            if separator:
                events[-1][name] = value
            elif events[-1]:
                if events[-1].get("event") != "progress":
                    return events
                events.append({})
    finally:
        connection.close()
    return [event for event in events if event]


class RestoredWatchTests(BackupTestCase):
    """B61 over HTTP."""

    def assert_compacted(self, event: dict[str, str], revision: int) -> None:
        """Check that an event says that what was asked for is gone."""
        self.assertEqual((event["event"], json.loads(event["data"])), ("compacted", {"compact_revision": revision}))

    def test_watchers_of_the_old_cluster(self) -> None:
        """B61: who goes on behind a revision of the old cluster is told that it is compacted, be it of before the
        backup or of after it; who begins anew sees what the new one does."""
        (old,) = self.make_cluster(1)
        for number in range(5):
            old.set("k", str(number))
        saved = self.facts(self.run_command("save", "backup", "--address", old.url, "--json"))
        for number in range(5):
            old.set("k", f"lost {number}")
        last = old.status()["revision"]
        old.kill()
        nodes, _ = self.make_other_cluster("backup")
        new_revision = saved["revision"] + MARGIN
        for revision in (1, saved["revision"], last, last + 1):
            for node in nodes:
                (event,) = first_events(node, f"/v1/watch?from_revision={revision}")
                self.assert_compacted(event, new_revision)
        (event,) = first_events(nodes[0], "/v1/watch?prefix=k", Last_Event_ID=str(last))
        self.assert_compacted(event, new_revision)
        self.assertEqual(nodes[1].set("k", "new").json["revision"], new_revision + 1)
        events = first_events(nodes[2], f"/v1/watch?from_revision={new_revision + 1}")
        put: dict[str, Any] = json.loads(events[-1]["data"])
        self.assertEqual((events[-1]["id"], put["kv"]["value"]), (str(new_revision + 1), "new"))
        self.assertEqual(put["prev_kv"]["value"], "4")
