"""The transcripts of the manual: each command is run against a real node, and must print what the page says.

With ``RAFTKV_REWRITE=1`` the transcripts are written anew; read the difference as you would read code.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.functional.processes import ROOT, FunctionalTestCase

ADDRESS = "localhost:8080"  # in the manual
# What no two runs have in common: tokens, which depend on the id of the cluster, and what time has left of a lease.
TOKEN = re.compile(r'(?<="continue":")[\w-]+(?=")')
REMAINING = re.compile(r'(?<="remaining":)[0-9.]+')
TOLD_TOKEN = "CmYw4fZ1…"


@dataclass
class Command:
    """A command of a page, and what it prints.

    :ivar first: index of its first line.
    :ivar last: index of the line behind its output.
    """

    first: int
    text: str
    last: int = 0
    output: list[str] = field(default_factory=list)


def commands_of(lines: list[str]) -> Iterator[Command]:
    """Yield the commands in the transcripts of a page."""
    command: Command | None = None
    in_transcript = False
    for number, line in enumerate(lines):
        starts = in_transcript and line.startswith("$ ")
        ends = in_transcript and line == "```"
        if command is not None and (starts or ends):
            command.last = number
            yield command
            command = None
        if starts:
            command = Command(number, line[2:])
        elif command is not None:
            command.output.append(line)
        in_transcript = line == "```console" or (in_transcript and not ends)


class TranscriptTests(FunctionalTestCase):
    """What the pages show."""

    def test_key_value_model(self) -> None:
        """Every transcript of the page on the key-value model, in order, on a new node."""
        self.check(ROOT / "docs" / "key-value-model.md", at_least=25)

    def test_http_api(self) -> None:
        """Likewise of the page on the API as a whole."""
        self.check(ROOT / "docs" / "http-api.md", at_least=10)

    def check(self, page: Path, *, at_least: int) -> None:
        """Run the commands of a page, and compare what they print with what the page has."""
        node = self.make_node()
        node.start()
        self.wait_ready(node)
        lines = page.read_text().splitlines()
        found: list[tuple[Command, list[str]]] = []
        token = ""
        for command in commands_of(lines):
            text = command.text.replace(ADDRESS, f"127.0.0.1:{node.http_port}").replace(TOLD_TOKEN, token)
            text = text.replace("continue=TOKEN", f"continue={token}")
            done = subprocess.run(
                ["bash", "-c", f'curl() {{ command curl --silent --max-time 20 "$@"; }}\n{text}'],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            told = TOKEN.search(done.stdout)
            token = told[0] if told else token
            found.append((command, TOKEN.sub(TOLD_TOKEN, done.stdout).splitlines()))
        self.assertGreaterEqual(len(found), at_least)
        if os.environ.get("RAFTKV_REWRITE"):
            for command, printed in reversed(found):
                written = command.text.replace("continue=TOKEN", f"continue={TOLD_TOKEN}")
                lines[command.first : command.last] = [f"$ {written}", *printed]
            page.write_text("\n".join(lines) + "\n")
            return
        for command, printed in found:
            with self.subTest(command=command.text):
                self.assertEqual(
                    [REMAINING.sub("…", line) for line in printed],
                    [REMAINING.sub("…", line) for line in command.output],
                )
