"""The list of a described folder: a CSV file with a view a line, and the files that it names."""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtlbench.errors import UsageError, unknown
from mtlbench.storage import read_regular

from .arrays import unusable
from .description import COLUMN, SPLITS, Description, Files, SceneColumn

LARGEST = 1 << 28
"""Bytes of a file; an image has some millions."""


@dataclass(frozen=True)
class Row:
    """A line of the list."""

    line: int
    cells: Mapping[str, str]

    def filled(self, template: str) -> str:
        """The template with the cells of the columns in its braces."""
        return COLUMN.sub(lambda found: self.cells[found[1]].zfill(int(found[2] or 0)), template)


@dataclass
class Folder:
    """The files of the listed views."""

    base: Path
    described: Description
    content: bytes
    """Of the list."""
    rows: dict[str, list[Row]]
    """Of each split that has any."""
    _members: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def kinds(self, split: str) -> dict[str, Files]:
        """Field -> the files of it in this split; without normals where none are given."""
        d = self.described
        kinds = {"image": d.image, "depth": d.depth, "label": d.labels(split), "normal": d.normal}
        return {kind: files for kind, files in kinds.items() if files is not None}

    def path(self, files: Files, row: Row) -> Path:
        """Of a file; of one in an archive it is that of the archive, followed by its name there."""
        folder = self.base / files.archive if files.archive else self.base
        return folder / row.filled(files.path)

    def read(self, files: Files, row: Row) -> bytes:
        """The content of a file; raises `UsageError` that names it where it cannot be had."""
        path = self.path(files, row)
        if files.archive:
            members = self._archive(files.archive)
            if (name := row.filled(files.path)) not in members:
                raise self._lacking(path, row, f"{self.base / files.archive} has no file {name}")
            return members[name]
        try:
            return read_regular(path, LARGEST)
        except OSError as error:
            raise self._lacking(path, row, f"{path} cannot be read: {error.strerror}") from error

    def scene(self, column: SceneColumn, row: Row) -> str:
        """What tells the scene of a view from others; raises `UsageError` for a cell that should be a number."""
        cell = row.cells[column.column]
        if column.numbers is None:
            return cell
        try:
            return str(int(cell) // column.numbers)
        except ValueError as error:
            what = f"{cell!r} in line {row.line}, column {column.column}, is no whole number"
            raise unusable(self.base / self.described.csv, what) from error

    def digest(self) -> str:
        """SHA-256 (hex) over the list and every file that it names; raises `UsageError` where one is missing."""
        total = hashlib.sha256(self.content)
        for split, rows in self.rows.items():
            total.update(split.encode())
            for row in rows:
                for files in self.kinds(split).values():
                    total.update(hashlib.sha256(self.read(files, row)).digest())
        return total.hexdigest()

    def _lacking(self, path: Path, row: Row, what: str) -> UsageError:
        return UsageError(f"{what}. Line {row.line} of {self.base / self.described.csv} names it.")

    def _archive(self, name: str) -> dict[str, bytes]:
        if name not in self._members:
            self._members[name] = dict(_members(self.base / name))
        return self._members[name]


def folder(base: Path, described: Description) -> Folder:
    """The listed files below `base`.

    Raises:
        UsageError: the list is no CSV file with the needed columns, a line has an unknown split, there is no view to
            train on or to test on, or an image is listed twice.
    """
    path = base / described.csv
    try:
        content = read_regular(path, LARGEST)
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        lines = [(reader.line_num, cells) for cells in reader]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}. It is to list the views.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise unusable(path, f"it is no CSV file in UTF-8 ({error})") from error
    needed = [column for kind in _all_kinds(described) for column in kind.columns]
    needed += [described.split.column, *([described.scene.column] if described.scene else [])]
    for column in needed:
        if column not in (reader.fieldnames or ()):
            raise unknown(f"column of {path}:", column, reader.fieldnames or ())
    found = Folder(base, described, content, {split: [] for split in SPLITS})
    for line, cells in lines:
        if None in cells or None in cells.values():
            raise unusable(path, f"line {line} has not as many cells as the header")
        word = cells[described.split.column]
        if word not in described.split.words:
            raise unknown(f"split in line {line} of {path}:", word, described.split.words)
        found.rows[described.split.words[word]].append(Row(line, cells))
    for split in ("train", "test"):
        if not found.rows[split]:
            raise unusable(path, f"no line is of the split {split}")
    found.rows = {split: rows for split, rows in found.rows.items() if rows}
    _require_once(path, found)
    return found


def _all_kinds(described: Description) -> Iterator[Files]:
    yield from (described.image, described.depth, described.label, *described.label_of.values())
    if described.normal:
        yield described.normal


def _require_once(path: Path, found: Folder) -> None:
    """No image stands twice: it could be trained on and tested with."""
    seen: dict[str, int] = {}
    for rows in found.rows.values():
        for row in rows:
            name = row.filled(found.described.image.path)
            if name in seen:
                raise unusable(path, f"lines {seen[name]} and {row.line} name the same image, {name}")
            seen[name] = row.line


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each regular file in a tar archive, without unpacking it to disk."""
    try:
        packed = io.BytesIO(read_regular(path, LARGEST))
        with tarfile.open(fileobj=packed) as archive:
            total = 0
            for member in archive:
                total += member.size
                if total > LARGEST:
                    raise unusable(path, f"its files are larger than {LARGEST} bytes")
                if member.isreg() and (content := archive.extractfile(member)):
                    yield member.name.removeprefix("./"), content.read()
    except UsageError:
        raise
    except OSError as error:
        raise unusable(path, f"it cannot be read ({error.strerror or error})") from error
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise unusable(path, f"it is no whole tar archive ({error})") from error
