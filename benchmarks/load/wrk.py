"""HTTP by ``wrk``: one request outstanding on each keep-alive connection. The warm-up is a run of its own.

A script in Lua makes the requests, from the same list of keys that the other generators use, and prints the figures.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.load.doors import request
from raftkv.bench.specification import Load

_MAX_PREPARED: Final = 10_000  # requests that the script holds

_SCRIPT: Final = """
local requests = {}
local next_request = 0
function init()
  %s
end
function request()
  next_request = next_request %% #requests + 1
  return requests[next_request]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{"requests":%%d,"microseconds":%%d,"p50":%%d,"p99":%%d,"p999":%%d,"errors":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def is_installed() -> bool:
    """Tell whether there is a ``wrk``."""
    return shutil.which("wrk") is not None


def script(load: Load) -> str:
    """Return what tells wrk what to ask for."""
    lines = []
    for number in range(min(load.keys, _MAX_PREPARED)):
        made = request(load, load.key(number))
        kind = f'{{["Content-Type"]={json.dumps(made.content_type)}}}' if made.content_type else "nil"
        body = json.dumps(made.body.decode()) if made.body else "nil"
        lines.append(
            f"requests[#requests+1] = wrk.format({json.dumps(made.method)}, {json.dumps(made.path)}, {kind}, {body})"
        )
    return _SCRIPT % "\n  ".join(lines)


def run(load: Load, begun: Callable[[], None]) -> dict[str, Any]:
    """Run wrk, for the warm-up and then for the figures."""
    with tempfile.TemporaryDirectory(prefix="raftkv-wrk-") as folder:
        path = Path(folder) / "load.lua"
        path.write_text(script(load))
        if load.warmup_seconds:
            _wrk(load, str(path), load.warmup_seconds)
        begun()
        told = _wrk(load, str(path), load.seconds)
    seconds = told["microseconds"] / 1e6
    good = told["requests"] - told["errors"]
    return {
        "requests": good,
        "seconds": seconds,
        "per_second": good / seconds,
        "p50_ms": told["p50"] / 1000,
        "p99_ms": told["p99"] / 1000,
        "p999_ms": told["p999"] / 1000,
        "errors": told["errors"],
    }


def _wrk(load: Load, path: str, seconds: float) -> dict[str, Any]:
    whole = max(1, math.ceil(seconds))  # wrk knows whole seconds only
    command = ["wrk", "-t1", f"-c{load.outstanding}", f"-d{whole}s", "--timeout", "10s", "-s", path]
    command.append(f"http://{load.addresses[0]}/")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=whole + 60)
    if ended.returncode:
        raise RuntimeError(f"wrk: {ended.stderr.strip()}")
    told: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return told
