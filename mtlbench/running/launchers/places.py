"""Which launcher a request asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtlbench.cells.request import Request
from mtlbench.running.launchers.launcher import Launcher
from mtlbench.running.launchers.local import Local

if TYPE_CHECKING:
    from mtlbench.running.torchrun import Leader


def launcher(request: Request, leader: Leader | None = None) -> Launcher:
    """The launcher of a request, under torchrun where there is a leader; raises `UsageError` where it is not there."""
    if leader and leader.position.size > 1:
        from mtlbench.running.torchrun import Together

        return Together(leader)
    place = request.place
    if place.on == "slurm":
        from mtlbench.running.launchers.slurm import Slurm

        return Slurm(place.slurm, request.results)
    if place.on == "ray":
        from mtlbench.running.launchers.ray import Ray

        return Ray(place.ray, request.results)
    return Local(request.devices)
