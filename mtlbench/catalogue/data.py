"""The data root and what lies under it: data sets as declared data, their files, checksums and download."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

import pydantic

from mtlbench.catalogue.registry import tasks
from mtlbench.catalogue.variants import task_data
from mtlbench.catalogue.yaml_file import read_yaml
from mtlbench.errors import DataMissing, UsageError, unknown
from mtlbench.storage import path_of
from mtlbench.strict import Strict, first_error

ENVIRONMENT = "MTLBENCH_DATA"
"""The environment variable that names the data root where none is given."""


class DataFile(Strict):
    """One file of a data set.

    At least one checksum is required. SHA-256 is preferred; MD5 stands in where it is all that the publisher
    gives: it finds a damaged file, not one that was altered with intent.
    """

    name: str
    """Path below the data set's folder, with `/`. The checksums are of a file of exactly this name."""
    urls: tuple[str, ...] = ()
    """Where it can be downloaded, the best first; empty for a file that people must get by hand."""
    size: Annotated[int, pydantic.Field(gt=0)] | None = None
    """Bytes, to tell how much a download is; never used to judge a file."""
    optional: bool = False
    """Whether the variant runs without it, on what is there."""
    sha256: Annotated[str, pydantic.Field(pattern="^([0-9a-f]{64})?$")] = ""
    md5: Annotated[str, pydantic.Field(pattern="^([0-9a-f]{32})?$")] = ""

    @pydantic.model_validator(mode="after")
    def _sound(self) -> Self:
        if not (self.sha256 or self.md5):
            raise ValueError(f"{self.name} needs a sha256 or an md5")
        _require_below(self.name, "the data set's folder")
        for url in self.urls:
            if not re.match("https?://", url):
                raise ValueError(f"{url} must start with http:// or https://")
        return self

    @property
    def checksum(self) -> tuple[str, str]:
        """The algorithm (`sha256` or `md5`) and the hexadecimal digest that decide about this file."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", self.md5)


class DataSet(Strict):
    """A published collection of files that one or more variants read from the data root."""

    name: str
    title: str
    source: str
    """The official place, for people."""
    licence: str
    folders: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    """Where its files may lie below the data root; `fetch` writes into the first."""
    files: tuple[DataFile, ...]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _expanded(cls, content: Any) -> Any:
        """A data set as written in YAML: `files` by name, with `mirrors` and `optional` that they have in common."""
        if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
            return content
        body = dict(content)
        mirrors, optional, files = body.pop("mirrors", []), body.pop("optional", False), body.pop("files")
        if not isinstance(mirrors, list) or not all(isinstance(mirror, str) for mirror in mirrors):
            raise ValueError("mirrors must be a list of addresses")
        expanded = []
        for name, declared in files.items():
            if not isinstance(declared, dict):
                raise ValueError(f"{name} of files must map keys such as sha256 to values")
            urls = [f"{mirror}{name}" for mirror in mirrors]
            expanded.append({"name": name, "urls": urls, "optional": optional, **declared})
        return {**body, "files": expanded}

    @pydantic.field_validator("folders")
    @classmethod
    def _below_the_root(cls, folders: tuple[str, ...]) -> tuple[str, ...]:
        for folder in folders:
            _require_below(folder, "the data root")
        return folders

    @property
    def size(self) -> int | None:
        """Bytes of all files, or None where one is unknown."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None


def data_root(given: str | Path | None = None) -> Path | None:
    """The folder of the data sets: `given`, else the environment variable MTLBENCH_DATA, else None."""
    chosen = given or os.environ.get(ENVIRONMENT)
    return path_of(chosen) if chosen else None


@functools.cache
def datasets(task: str) -> dict[str, DataSet]:
    """The data sets that `task` declares in the `datasets.yaml` beside its protocols, by name; may be empty.

    A file's `urls` may be left out: then they are its name below each of the data set's `mirrors`. `optional` of the
    data set is that of each of its files that does not say otherwise.

    Raises:
        UsageError: the task is unknown or its file is malformed.
    """
    protocols = tasks.entry(task).protocols
    path = protocols.parent / "datasets.yaml" if isinstance(protocols, Path) else None
    if path is None or not path.exists():
        return {}
    raw = read_yaml(path)
    if isinstance(raw, dict):
        raw = {name: {"name": name, **body} if isinstance(body, dict) else body for name, body in raw.items()}
    try:
        return pydantic.TypeAdapter(dict[str, DataSet]).validate_python(raw)
    except pydantic.ValidationError as error:
        raise UsageError(f"The data sets of task {task!r} ({path}) cannot be read: {first_error(error)}.") from error


def needed(task: str, variant: str) -> list[DataSet]:
    """The data sets that `variant` reads from the data root; empty for embedded data.

    Raises:
        UsageError: the task or variant is unknown, or needs a data set that the task does not declare.
    """
    variants = task_data(task).variants
    if variant not in variants:
        raise unknown(f"variant of {task}:", variant, variants)
    declared = datasets(task)
    names = variants[variant].needs
    for name in names:
        if name not in declared:
            raise UsageError(f"{task}/{variant} needs the data set {name!r}, which its datasets.yaml lacks.")
    return [declared[name] for name in names]


def find(dataset: DataSet, name: str, root: Path | None) -> Path | None:
    """Where the file `name` of `dataset` lies below `root`, plain or with `.gz`; None if nowhere.

    Only regular files count: a pipe or a device of that name may never end.

    Raises:
        UsageError: a folder on the way may not be looked into, or a name is too long for the file system.
    """
    for path in _candidates(dataset, name, root):
        try:
            if path.is_file():
                return path
        except OSError as error:
            raise UsageError(f"{path} cannot be looked for: {error.strerror}. Choose another data_root.") from error
    return None


def visible(folder: Path, pattern: str) -> list[Path]:
    """What lies in a folder of a data root under names like `pattern`, sorted; nothing for a folder that is not there.

    Hidden files are no data: `._Name.xml` and the like are left by file managers.
    """
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def locate(dataset: DataSet, name: str, root: Path | None, wanted_by: str) -> Path:
    """Where the file `name` of `dataset` lies below `root`, plain or with `.gz`.

    Args:
        dataset: the data set that declares it.
        name: its name there; one that ends in `.gz` is also found without, and the other way round.
        root: the data root, or None where none was given.
        wanted_by: the `task/variant` that needs it, for the message.

    Raises:
        DataMissing: it is nowhere; the message names every place looked at, the official source and the
            command that gets it.
    """
    path = find(dataset, name, root)
    if path is not None:
        return path
    if root is None:
        looked = f"No data root is set: give data_root=DIR or set {ENVIRONMENT}."
    else:
        looked = f"Looked at: {', '.join(str(p) for p in _candidates(dataset, name, root))}."
    raise DataMissing(
        f"{wanted_by} needs {dataset.title}, and its file {name} is not there. {looked}\n"
        f"{_how_to_get(dataset, root, wanted_by)}"
    )


def _require_below(path: str, root: str) -> None:
    if not path.isprintable() or PurePosixPath(path).is_absolute() or {"..", "~"} & {*PurePosixPath(path).parts}:
        raise ValueError(f"{path!r} must be a path below {root}")


def _candidates(dataset: DataSet, name: str, root: Path | None) -> Iterator[Path]:
    other = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"
    for folder in dataset.folders if root is not None else ():
        assert root is not None
        yield root / folder / name
        yield root / folder / other


def _how_to_get(dataset: DataSet, root: Path | None, wanted_by: str) -> str:
    folder = f"{root or 'DIR'}/{dataset.folders[0]}"
    by_hand = f"get it from its official source, {dataset.source}, and put its files into {folder}"
    if not all(file.urls for file in dataset.files):
        return f"It cannot be downloaded by a command: {by_hand}."
    size = f" ({dataset.size / 1e6:.1f} MB)" if dataset.size else ""
    return f"Run `mtlbench data fetch {wanted_by} data_root={root or 'DIR'}`{size}, or {by_hand}."
