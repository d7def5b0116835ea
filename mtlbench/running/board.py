"""What processes tell each other that were started side by side, as by torchrun: JSON text in a store.

Nothing is pickled, and nothing waits: a key is there or it is not. Who can reach the store can tell processes what to
do, as with anything of torch.distributed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from torch import distributed

from mtlbench.running.job import Meeting

TIMEOUT = timedelta(hours=2)
"""How long ranks wait for each other: the first one evaluates and saves while the others wait."""


class Board:
    """What stands in a store under one name.

    Args:
        store: where all of them look.
        name: what its keys begin with.
    """

    def __init__(self, store: distributed.Store, name: str) -> None:
        self._store = distributed.PrefixStore(name, store)

    @classmethod
    def at(cls, meeting: Meeting) -> Board:
        """That of a cell, over a connection of its own: on a connection one waits for the other's answer."""
        return cls(connected(meeting), meeting.name)

    def tell(self, key: str, content: Mapping[str, Any] | None = None) -> None:
        """Put something there."""
        self._store.set(key, json.dumps(dict(content or {})))

    def told(self, key: str) -> dict[str, Any] | None:
        """What was put there; None where nothing was."""
        if not self._store.check([key]):
            return None
        content: dict[str, Any] = json.loads(self._store.get(key))
        return content

    def count(self, key: str, more: int = 0) -> int:
        """A counter, which begins at 0, with so many more."""
        return int(self._store.add(key, more))


def connected(meeting: Meeting) -> distributed.Store:
    """The store where processes meet; raises `torch.distributed.DistError` where it cannot be reached."""
    return distributed.TCPStore(meeting.host, meeting.port, is_master=False, timeout=TIMEOUT)


def of_group(store: distributed.Store, name: str) -> distributed.Store:
    """The part of a store in which the process group of a cell comes together."""
    return distributed.PrefixStore(f"{name}/group", store)
