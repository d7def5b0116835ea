"""Package discovery: `methods/` and `tasks/` install as `mtlbench.methods` and `mtlbench.tasks`."""

from setuptools import find_packages, setup

setup(
    packages=["mtlbench"]
    + [f"mtlbench.{p}" for p in find_packages("mtlbench")]
    + [f"mtlbench.{room}{p}" for room in ("methods", "tasks") for p in ("", *(f".{q}" for q in find_packages(room)))]
)
