"""Files are whole or absent whatever happens while they are written; locks go with the process that holds them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from mtlbench.errors import UsageError
from mtlbench.storage import (
    is_locked,
    kept_from_children,
    locked,
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
    with locked(tmp_path):
        remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "log.txt"]


def test_a_lock_excludes_others_and_ends_with_its_process(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    code = (
        "import sys; from pathlib import Path; from mtlbench.storage import locked\n"
        "with locked(Path(sys.argv[1])) as mine:\n    print(mine, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert is_locked(tmp_path)
    with locked(tmp_path) as mine:
        assert not mine
    holder.kill()
    holder.communicate()
    assert not is_locked(tmp_path)
    with locked(tmp_path) as mine:
        assert mine


def test_asking_whether_a_folder_is_locked_never_makes_it_look_locked(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mtlbench.storage import is_locked\n"
        "print('', flush=True)\nwhile True:\n    is_locked(Path(sys.argv[1]))"
    )
    with locked(tmp_path):
        pass
    asker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert asker.stdout is not None
        asker.stdout.readline()
        for _ in range(2000):
            with locked(tmp_path) as mine:
                assert mine
    finally:
        asker.kill()
        asker.communicate()


def test_a_file_system_without_locks_is_refused_in_words_and_nothing_there_looks_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(tmp_path):
        pass

    def flock(handle: int, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UsageError, match=r"cannot be locked \(flock: Operation not supported\).*results=DIR"):
        require_writable(tmp_path)
    assert not is_locked(tmp_path)


def test_a_forked_child_holds_neither_the_lock_nor_what_is_kept_from_it(tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with locked(tmp_path), kept_from_children(file):
        wait, go_on = os.pipe()
        seen, is_up = os.pipe()
        child = os.fork()
        if not child:
            os.write(file, b"from the child")
            os.write(is_up, b".")
            os.close(go_on)
            os.read(wait, 1)
            os._exit(0)
        os.read(seen, 1)  # what a child lets go of, it has let go of by now
        assert is_locked(tmp_path)
    try:
        assert not is_locked(tmp_path)
    finally:
        os.close(go_on)
        os.waitpid(child, 0)
    assert (tmp_path / "file").read_bytes() == b""
    os.close(wait)
    os.close(file)


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
