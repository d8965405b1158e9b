"""A write every so often, whatever happens to those before, to see when they succeed again.

Open, unlike the other loops: a write that hangs holds up none after it. Connections that break are left alone; there is
one to each of the addresses, which are those of the servers that stay.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks.load.conversations import conversation
from raftkv.bench.link import Link
from raftkv.bench.specification import Load

PER_SECOND: Final = 100


def run(load: Load, begun: Callable[[], None]) -> dict[str, Any]:
    """Write at an even pace; return when each write that succeeded was sent and answered, by the monotonic clock."""
    selector = selectors.DefaultSelector()
    links = [Link(address, conversation(load)) for address in load.addresses]
    for link in links:
        selector.register(link.socket, selectors.EVENT_READ, link)
    succeeded: list[tuple[float, float]] = []
    errors = 0
    began = time.monotonic()
    warm = began + load.warmup_seconds
    end = warm + load.seconds
    number = 0
    announced = False
    while (now := time.monotonic()) < end:
        if now >= warm and not announced:
            announced = True
            begun()
        due = began + number / PER_SECOND
        if now >= due:
            links[number % len(links)].ask([load.key(number)])
            number += 1
            continue
        for key, _ in selector.select(due - now):
            link = key.data
            sent = link.sent
            try:
                good, bad = link.receive()
            except ConnectionError:
                selector.unregister(link.socket)
                continue
            answered = time.monotonic()
            # perf_counter and monotonic are one clock on Linux; the orchestrator knows the second.
            succeeded += [(sent.pop(which), answered) for which in good]
            for which in bad:
                sent.pop(which, None)
            errors += len(bad)
    for link in links:
        link.socket.close()
    return {"succeeded": succeeded, "sent": number, "errors": errors}
