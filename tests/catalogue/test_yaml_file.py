"""YAML files of tasks: plain data, or one error that names the file, the line and the reason."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from mtlbench.catalogue.yaml_file import LARGEST, read_yaml
from mtlbench.errors import UsageError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.yaml"
    path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
    return path


def test_what_stands_in_a_file_is_read_as_plain_data_and_a_date_as_text(tmp_path: Path) -> None:
    text = """
        common: &common {a: 1, b: 0.5, c: true, d: null}
        merged: {<<: *common, a: 2}
        date: 2020-01-01
        time: 2020-01-01T00:00:00Z
        list: [x, 1_000]
    """
    common = {"a": 1, "b": 0.5, "c": True, "d": None}
    assert read_yaml(written(tmp_path, text)) == {
        "common": common,
        "merged": {**common, "a": 2},
        "date": "2020-01-01",
        "time": "2020-01-01T00:00:00Z",
        "list": ["x", 1000],
    }
    assert read_yaml(written(tmp_path, "")) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: {c: 1}\na: 2\n", "'a' stands twice in line 3, column 1"),
        ("b:\n  c: 1\n  d: 2\n  c: 1\n", "'c' stands twice in line 4, column 3"),
        ("x: &x {a: 1}\ny: {<<: *x, b: 1, b: 2}\n", "'b' stands twice in line 2"),
        ("a: [1, 2\n", "in line 2, column 1"),
        ("a: b: c\n", "mapping values are not allowed here in line 1, column 5"),
        ("[a]: 1\n? [b]\n: 2", "found unhashable key in line 1"),
        ("a: !!python/object:os.system {}\n", "could not determine a constructor .* in line 1"),
        ("a: " + "9" * 5000, "a number in it has thousands of digits"),
        ("[" * 3000, "nested too deeply"),
        ("- " * 3000 + "x", "nested too deeply"),
        (b"a: \xff\xfe", "no text in UTF-8"),
        ("a: \x1b[31m\n", "special characters are not allowed"),
        ("a: 1\n" + "#" * LARGEST, f"larger than {LARGEST} bytes"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else None,
)
def test_what_cannot_be_read_is_one_error_with_the_file_and_the_place(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=rf"^{path} cannot be read: .*{reason}") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "folder", "nothing"])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "some.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(UsageError, match=r"cannot be read: (it is )?(not a regular file|No such file)"):
        read_yaml(path)
