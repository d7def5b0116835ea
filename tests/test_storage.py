"""Files are whole or absent whatever happens while they are written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from mtlbench.errors import UsageError
from mtlbench.storage import (
    path_of,
    read_regular,
    remove_leftovers,
    require_writable,
    set_aside,
    write_atomically,
)


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, before: bytes | None, error: type[BaseException]
) -> None:
    target = tmp_path / "file"
    if before is not None:
        target.write_bytes(before)

    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomically(target, fail)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({} if before is None else {"file": before})


def test_a_write_replaces_the_file_whole_and_readable_by_others(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"one")
    write_atomically(target, lambda file: file.write(b"two"))
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_process_killed_while_writing_leaves_a_leftover_that_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from mtlbench.storage import write_atomically\n"
        "def die(file):\n    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]) / 'record.json', die)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".record.json.")
    (tmp_path / "log.txt").touch()
    (tmp_path / ".lock").touch()
    (tmp_path / ".lock.1").touch()
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", ".lock.1", "log.txt"]


def test_a_regular_file_is_read_whole_up_to_its_cap(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file", most=5) == read_regular(tmp_path / "link", most=6) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular(tmp_path / "file", most=4)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", most=4)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("special", ["pipe", "device", "folder", "link to a pipe"])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path, special: str) -> None:
    path = tmp_path / "record.json"
    if special == "folder":
        path.mkdir()
    elif special == "device":
        path.symlink_to("/dev/zero")
    elif special == "pipe":
        os.mkfifo(path)
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    with pytest.raises(OSError, match="not a regular file") as refused:
        read_regular(path, most=1000)
    assert refused.value.filename == str(path)


def test_set_aside_keeps_every_damaged_file(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "record.json").write_text(str(number))
        assert set_aside(tmp_path / "record.json").read_text() == str(number)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["record.json.corrupt1", "record.json.corrupt2"]


def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="results=DIR"):
        require_writable(tmp_path / "file" / "below")
    with pytest.raises(UsageError, match="results=DIR"):
        require_writable(tmp_path / "file")
    require_writable(tmp_path / "new" / "below")
    assert list((tmp_path / "new" / "below").iterdir()) == []


def test_a_path_of_a_user_that_there_is_not_is_refused_in_words() -> None:
    assert path_of("~/x") == Path.home() / "x"
    with pytest.raises(UsageError, match="no home folder is known of '~nosuchuser'"):
        path_of("~nosuchuser/x")
