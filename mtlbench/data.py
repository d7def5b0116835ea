"""The data root and what lies under it: data sets as declared data, their files, checksums and download."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self

import pydantic
import yaml

from mtlbench.errors import DataMissing, UsageError, unknown
from mtlbench.protocol import Strict, task_data
from mtlbench.registry import tasks

ENVIRONMENT = "MTLBENCH_DATA"
"""The environment variable that names the data root where none is given."""

CHUNK = 1 << 18
TIMEOUT = 30.0
"""Seconds without a byte after which a download counts as failed."""

State = Literal["missing", "present", "verified", "corrupt"]
Progress = Callable[["DataFile", int, int | None], None]
"""Called during a download with the file, the bytes received so far and the bytes in all (None: unknown)."""


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
        if Path(self.name).is_absolute() or ".." in Path(self.name).parts:
            raise ValueError(f"{self.name} must be a path below the data set's folder")
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

    @property
    def size(self) -> int | None:
        """Bytes of all files, or None where one is unknown."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None


@dataclass(frozen=True)
class FileState:
    """What is on disk of one file: its state, and where it was found (None: missing)."""

    file: DataFile
    state: State
    path: Path | None


def data_root(given: str | Path | None = None) -> Path | None:
    """The folder of the data sets: `given`, else the environment variable MTLBENCH_DATA, else None."""
    chosen = given or os.environ.get(ENVIRONMENT)
    return Path(chosen).expanduser() if chosen else None


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
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {name: DataSet(name=name, **_expanded(body)) for name, body in raw.items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, pydantic.ValidationError) as error:
        raise UsageError(f"The data sets of task {task!r} ({path}) cannot be read: {error}") from error


def needed(task: str, variant: str) -> list[DataSet]:
    """The data sets that `variant` reads from the data root; empty for embedded data.

    Raises:
        UsageError: the task or variant is unknown, or needs a data set that the task does not declare.
    """
    variants = task_data(task).variants
    if variant not in variants:
        raise unknown(f"variant of {task}:", variant, variants)
    declared = datasets(task)
    names = variants[variant].needs.split()
    for name in names:
        if name not in declared:
            raise UsageError(f"{task}/{variant} needs the data set {name!r}, which its datasets.yaml lacks.")
    return [declared[name] for name in names]


def find(dataset: DataSet, name: str, root: Path | None) -> Path | None:
    """Where the file `name` of `dataset` lies below `root`, plain or with `.gz`; None if nowhere."""
    return next((path for path in _candidates(dataset, name, root) if path.is_file()), None)


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


def status(dataset: DataSet, root: Path | None) -> list[FileState]:
    """Which files of `dataset` are `present` or `missing` below `root`, by name alone (see `verify`)."""
    found = [(file, find(dataset, file.name, root)) for file in dataset.files]
    return [FileState(file, "present" if path else "missing", path) for file, path in found]


def verify(dataset: DataSet, root: Path | None) -> list[FileState]:
    """Read every file of `dataset` below `root` and compare its checksum: `verified`, `corrupt` or `missing`.

    A `.gz` of a file that is declared plain is judged by its contents. A plain file that is declared as
    `.gz` has no checksum to compare with and stays `present`.
    """
    return [_verified(file, find(dataset, file.name, root)) for file in dataset.files]


def fetch(dataset: DataSet, root: Path | None, progress: Progress | None = None) -> list[Path]:
    """Download the files of `dataset` that are missing or corrupt below `root`; returns those it wrote.

    A file is written beside its place under another name, compared with its checksum and then renamed, so
    that a file under its own name is always whole. What is already verified is not downloaded again, so a
    fetch that failed midway goes on with the file that it failed at.

    Raises:
        UsageError: no data root, a folder that cannot be written, a file without address, or no address from
            which the file could be had whole; the message gives the reason for each address.
    """
    if root is None:
        raise UsageError(
            f"There is no data root to fetch {dataset.title} into: give data_root=DIR or set {ENVIRONMENT}."
        )
    written = []
    for file in dataset.files:
        if _verified(file, find(dataset, file.name, root)).state in ("missing", "corrupt"):
            target = root / dataset.folders[0] / file.name
            _fetch_file(dataset, file, target, progress)
            written.append(target)
    return written


def _expanded(body: dict[str, Any]) -> dict[str, Any]:
    """A data set as written in YAML (`files` by name, common `mirrors` and `optional`) in the shape of `DataSet`."""
    body = dict(body)
    mirrors, optional = body.pop("mirrors", []), body.pop("optional", False)
    files = body.pop("files")
    expanded = []
    for name, declared in files.items():
        urls = [mirror + name for mirror in mirrors]
        expanded.append({"name": name, "urls": urls, "optional": optional, **declared})
    return {**body, "files": expanded}


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


def _verified(file: DataFile, path: Path | None) -> FileState:
    if path is None:
        return FileState(file, "missing", None)
    algorithm, expected = file.checksum
    if path.name.endswith(".gz") == file.name.endswith(".gz"):
        opener: Callable[[Path], Any] = functools.partial(open, mode="rb")
    elif path.name.endswith(".gz"):
        opener = gzip.open
    else:
        return FileState(file, "present", path)
    try:
        with opener(path) as stream:
            digest = hashlib.file_digest(stream, algorithm).hexdigest()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return FileState(file, "corrupt", path)
    return FileState(file, "verified" if digest == expected else "corrupt", path)


def _fetch_file(dataset: DataSet, file: DataFile, target: Path, progress: Progress | None) -> None:
    if not file.urls:
        raise UsageError(
            f"{file.name} of {dataset.title} cannot be downloaded by a command: get it from {dataset.source} "
            f"and save it as {target}."
        )
    failures = []
    for url in file.urls:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        except OSError as error:
            raise UsageError(f"{target} cannot be written: {error}. Choose another data_root.") from error
        try:
            with os.fdopen(descriptor, "wb") as out:
                failure = _download(url, file, out, progress)
            if not failure:
                Path(temporary).chmod(0o644)  # mkstemp makes it readable by its owner alone
                Path(temporary).replace(target)
                return
        finally:
            Path(temporary).unlink(missing_ok=True)
        failures.append(f"  {url}: {failure}")
    raise UsageError(
        f"{file.name} of {dataset.title} could not be downloaded; {target} is left as it was. Tried\n"
        + "\n".join(failures)
        + f"\nTry again later, or get it from {dataset.source} on a machine with a connection, save it as "
        f"{target} and run `mtlbench data verify`."
    )


def _download(url: str, file: DataFile, out: IO[bytes], progress: Progress | None) -> str:
    """Copy `url` to `out`; the reason why it is not the declared file, or an empty string."""
    algorithm, expected = file.checksum
    digest, done = hashlib.new(algorithm), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length else file.size
            while chunk := response.read(CHUNK):
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(file, done, total)
            out.flush()
    except urllib.error.HTTPError as error:
        return f"the server answered {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return f"the server cannot be reached ({error.reason})"
    except (OSError, http.client.HTTPException) as error:
        return f"it broke off after {done} bytes ({error or type(error).__name__})"
    if length and done < int(length):
        return f"the connection ended after {done} of {length} bytes"
    if digest.hexdigest() != expected:
        return f"its {algorithm} is {digest.hexdigest()} and should be {expected}"
    return ""
