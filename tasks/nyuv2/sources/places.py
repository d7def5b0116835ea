"""Where the files of a variant lie below the data root."""

from __future__ import annotations

from pathlib import Path

from mtlbench.catalogue.data import ENVIRONMENT, datasets
from mtlbench.errors import DataMissing, UsageError


def folder_with(held: tuple[str, ...], dataset: str, root: Path | None, wanted_by: str) -> Path:
    """The first folder of `dataset` below `root` that holds one of `held`, files or folders.

    Raises:
        DataMissing: there is none; the message names every place looked at and the official source.
        UsageError: a folder may not be looked into.
    """
    declared = datasets("nyuv2")[dataset]
    places = [root / folder for folder in declared.folders] if root else []
    for place in places:
        try:
            if any((place / name).exists() for name in held):
                return place
        except OSError as error:
            raise UsageError(f"{place} cannot be looked into: {error.strerror}. Choose another data_root.") from error
    wanted = " or ".join(held)
    if places:
        looked = f"{wanted} is not in {' or '.join(map(str, places))}"
    else:
        looked = f"no data root is set: give data_root=DIR or set {ENVIRONMENT}"
    raise DataMissing(
        f"{wanted_by} needs {declared.title}, and {looked}. It cannot be downloaded by a command: get it from "
        f"{declared.source}, and put it into {root or 'DIR'}/{declared.folders[0]}."
    )
