"""Packages: `methods/` and `tasks/`, beside `mtlbench/`, install as `mtlbench.methods` and `mtlbench.tasks`."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOMS = ("methods", "tasks")


class Build(build_py):
    """Puts methods and tasks into the package; an editable install is a plain path entry, and finds them by itself."""

    def finalize_options(self) -> None:
        """Add their packages to those of the framework."""
        super().finalize_options()
        if not self.editable_mode:
            own = [f"{room}{p}" for room in ROOMS for p in ("", *(f".{q}" for q in find_packages(room)))]
            self.packages = [*self.packages, *(f"mtlbench.{p}" for p in own)]
            self.package_dir = {**self.package_dir, **{f"mtlbench.{room}": room for room in ROOMS}}


setup(
    packages=["mtlbench", *(f"mtlbench.{p}" for p in find_packages("mtlbench"))],
    package_dir={"": "."},  # stated, since only then is an editable install a path entry
    cmdclass={"build_py": Build},
)
