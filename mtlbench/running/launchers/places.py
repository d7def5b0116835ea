"""Which launcher a request asks for."""

from __future__ import annotations

from mtlbench.cells.request import Request
from mtlbench.running.launchers.launcher import Launcher
from mtlbench.running.launchers.local import Local


def launcher(request: Request) -> Launcher:
    """The launcher of a request; raises `UsageError` where the place is not there."""
    place = request.place
    if place.on == "slurm":
        from mtlbench.running.launchers.slurm import Slurm

        return Slurm(place.slurm, request.results)
    if place.on == "ray":
        from mtlbench.running.launchers.ray import Ray

        return Ray(place.ray)
    return Local(request.devices)
