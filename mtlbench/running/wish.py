"""A wish to stop that is not lost."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

WISHES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Of a person, of a batch system, of a terminal that is closed."""


class Wish:
    """Notices signals that raise `KeyboardInterrupt`, while it is entered.

    They raise it between two instructions of the main thread. Where these belong to a hook, as those of `logging`
    around every fork, Python prints the exception and goes on as if nothing had been asked for.
    """

    def __init__(self) -> None:
        self._made = False
        self._noticed: list[signal.Signals] = []

    def __enter__(self) -> Wish:
        if threading.current_thread() is threading.main_thread():
            self._noticed = [wish for wish in WISHES if signal.getsignal(wish) is signal.default_int_handler]
            for wish in self._noticed:
                signal.signal(wish, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for wish in self._noticed:
            signal.signal(wish, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._made = True
        signal.default_int_handler(number, frame)

    def heed(self) -> None:
        """Raise `KeyboardInterrupt` if somebody has asked to stop."""
        if self._made:
            raise KeyboardInterrupt
