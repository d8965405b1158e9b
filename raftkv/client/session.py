"""The client's half of exactly-once: an id, and numbers that never leave the window that servers remember.

Servers keep the answers of a client's last 1,024 numbers. What must stay below that is the distance from the lowest
number still under way to the highest one sent, not how many are under way: one write that is being retried while a
thousand others pass it would otherwise find its own answer forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SESSION_WINDOW: Final = 1024  # answers that servers keep for each client: part of the protocol
_ID_BYTES: Final = 16


class Session:
    """Hands out sequence numbers.

    :param entropy: gives as many random bytes as asked for; two clients with one id would get each other's answers.
    :param window: how far apart numbers under way may be.
    :ivar client_id: hex, as it travels in ``X-Client-Id``.
    """

    def __init__(self, *, entropy: Callable[[int], bytes], window: int = SESSION_WINDOW) -> None:
        self.client_id = entropy(_ID_BYTES).hex()
        self._window = window
        self._next = 1
        self._lowest = 1  # every number below it has been given back
        self._under_way: set[int] = set()

    def __len__(self) -> int:
        """Return how many numbers are under way."""
        return len(self._under_way)

    def take(self) -> int | None:
        """Return a new number, or ``None`` while the window is full."""
        number = self._next
        if number - self._lowest >= self._window:
            return None
        self._next = number + 1
        self._under_way.add(number)
        return number

    def take_many(self, count: int) -> range | None:
        """Return so many new numbers in a row, or ``None`` while the window has no room for all of them.

        :param count: at most the window, else there will never be room.
        """
        if self._next + count - self._lowest > self._window:
            return None
        numbers = range(self._next, self._next + count)
        self._next += count
        self._under_way.update(numbers)
        return numbers

    def give_back(self, number: int) -> None:
        """Say that nothing will be sent under this number any more, whatever became of it."""
        self._under_way.remove(number)
        if number == self._lowest:
            self._lowest += 1
            while self._lowest < self._next and self._lowest not in self._under_way:
                self._lowest += 1
