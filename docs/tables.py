"""Writes the two pages of the manual that follow from the source: every setting, and where each known bug is held.

``python docs/tables.py`` writes them; a test checks that they have been.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from raftkv.config import KIB, MIB, SETTINGS, Setting

DOCS = Path(__file__).resolve().parent
TESTS = DOCS.parent / "tests"
BEGIN = "<!-- the table below is written by docs/tables.py -->\n"
END = "<!-- end of the table -->\n"

_SECTIONS = (("", "Listeners"), ("raft.", "Raft"), ("history.", "History"), ("limits.", "Limits"))


def default_text(setting: Setting) -> str:
    """Return the default of a setting as the page shows it."""
    if setting.derived:
        return setting.derived
    if setting.required:
        return "required"
    value: Any = setting.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int):
        human = {True: f" ({value // MIB} MiB)", False: f" ({value // KIB} KiB)"}[value % MIB == 0]
        return f"`{value}`{human if setting.unit == 'bytes' and value % KIB == 0 else ''}"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def configuration_table() -> str:
    """Return the tables of the configuration page."""
    parts = []
    for prefix, title in _SECTIONS:
        keys = [s for s in SETTINGS if s.key.rpartition(".")[0] == prefix.rstrip(".")]
        parts.append(f"\n## {title}\n\n| key | meaning | what it takes | default |\n| --- | --- | --- | --- |\n")
        parts.extend(f"| `{s.key}` | {s.doc} | {s.kind.expected} | {default_text(s)} |\n" for s in keys)
    return "".join(parts) + "\n"


def proofs() -> dict[int, list[str]]:
    """Return, for each number of a bug, the test files that name it."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("*")):
        if path.suffix not in (".py", ".txt") or path.name == "__init__.py":
            continue
        if path.relative_to(TESTS).parts[0] == "mutants":
            continue  # a mutant breaks the rule, and is no proof that it holds
        for number in {int(text) for text in re.findall(r"\bB([0-9]{1,2})\b", path.read_text())}:
            found.setdefault(number, []).append(path.relative_to(TESTS.parent).as_posix())
    return found


def with_proofs(page: str) -> str:
    """Return the page of bugs with the last column filled in anew; where no test is, what stands there stays."""
    known = proofs()

    def row(match: re.Match[str]) -> str:
        files = known.get(int(match[1]))
        proof = ", ".join(f"`{file.removeprefix('tests/')}`" for file in files) if files else match[3]
        return f"| B{match[1]} | {match[2]} | {proof} |"

    return re.sub(r"^\| B([0-9]+) \| (.*?) \| (.*) \|$", row, page, flags=re.MULTILINE)


def with_configuration(page: str) -> str:
    """Return the configuration page with its tables written anew."""
    head, _, rest = page.partition(BEGIN)
    return head + BEGIN + configuration_table() + END + rest.partition(END)[2]


def main() -> None:
    """Write both pages."""
    for name, renew in (("configuration.md", with_configuration), ("bugs.md", with_proofs)):
        path = DOCS / name
        path.write_text(renew(path.read_text()))


if __name__ == "__main__":
    main()
