"""Locks go with the process that holds them; between hosts they pass on by a silence, and never to two at once."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mtlbench import locks
from mtlbench.errors import UsageError
from mtlbench.locks import Host, holder, is_locked, locked
from mtlbench.storage import kept_from_children, require_writable

A, B = Host("a", "1"), Host("b", "1")


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """`flock` excludes nobody, as between hosts on some network file systems."""
    monkeypatch.setattr(locks, "try_flock", lambda handle: True)


def left_behind(folder: Path, host: Host, silent: float = 0.0, silence: float = 120.0) -> Path:
    """The file of an owner that was lost with its host, so many seconds ago."""
    owner = {"host": {"name": host.name, "boot": host.boot}, "process": 1, "start": 0.0, "silence": silence}
    (folder / ".lock").touch()
    path = folder / ".lock.1"
    path.write_text(json.dumps(owner))
    beat = time.time() - silent
    os.utime(path, (beat, beat))
    return path


def test_a_lock_excludes_other_hosts_where_flock_does_not(tmp_path: Path, apart: None) -> None:
    with locked(tmp_path, host=A) as mine:
        assert mine
        assert is_locked(tmp_path, host=B)
        assert (found := holder(tmp_path)) is not None
        assert (found.host, found.process) == (A, os.getpid())
        with locked(tmp_path, host=B) as also:
            assert not also
        assert is_locked(tmp_path, host=B)
    assert not is_locked(tmp_path, host=B)
    with locked(tmp_path, host=B) as mine:
        assert mine
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_lost_host_keeps_its_lock_for_the_silence_that_it_stated_and_no_longer(tmp_path: Path, apart: None) -> None:
    left_behind(tmp_path, A, silent=100)
    with locked(tmp_path, host=B) as mine:
        assert not mine
    left_behind(tmp_path, A, silent=130)
    assert not is_locked(tmp_path, host=B)
    left_behind(tmp_path, A, silent=100, silence=60)
    with locked(tmp_path, host=B) as mine:
        assert mine
        assert (found := holder(tmp_path)) is not None
        assert found.host == B


def test_on_its_own_host_a_lock_ends_with_its_process_at_once(tmp_path: Path) -> None:
    left_behind(tmp_path, A)
    assert is_locked(tmp_path, host=B)
    assert is_locked(tmp_path, host=Host("a", "2"))  # as far as one can know, another machine of that name
    assert not is_locked(tmp_path, host=A)
    with locked(tmp_path, host=A) as mine:
        assert mine


def test_a_heartbeat_keeps_the_lock_however_long_it_is_held(tmp_path: Path, apart: None) -> None:
    with locked(tmp_path, host=A, silence=0.8):
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with locked(tmp_path, host=B) as mine:
                assert not mine
            time.sleep(0.02)


def test_who_was_taken_for_lost_is_told_when_it_comes_back(tmp_path: Path, apart: None) -> None:
    lost = threading.Event()
    with locked(tmp_path, host=A, silence=0.8, on_lost=lost.set):
        old = time.time() - 10
        os.utime(tmp_path / ".lock.1", (old, old))  # as if it had been stopped
        with locked(tmp_path, host=B) as mine:
            if not mine:  # its heart has beaten in between
                pytest.skip("the machine was too slow to be quicker than a heartbeat")
            assert lost.wait(5)
        with locked(tmp_path, host=B, silence=60) as mine:
            assert mine
            stands = (tmp_path / ".lock.1").read_text()
            assert '"b"' in stands


def test_of_many_hosts_that_take_a_stale_lock_over_one_wins(tmp_path: Path, apart: None) -> None:
    for attempt in range(30):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        left_behind(folder, A, silent=1000)
        together, winners = threading.Barrier(6), []

        def take(number: int, folder: Path = folder, together: threading.Barrier = together) -> None:
            together.wait()
            with locked(folder, host=Host(f"host{number}")) as mine:
                winners.append(mine)
                together.wait()

        threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(winners) == 1


def test_who_comes_late_to_a_takeover_draws_back(tmp_path: Path, apart: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """B sees A's stale lock; before it acts, C takes over, lets go, and D holds the lock by another number."""
    left_behind(tmp_path, A, silent=1000)
    judge = locks._is_free
    held: list[Any] = []

    def slow(path: Path, host: Host) -> bool:
        free = judge(path, host)
        if host == B and not held:
            with locked(tmp_path, host=Host("c")) as mine:
                assert mine
            held.append(locked(tmp_path, host=Host("d")))
            assert held[0].__enter__()
        return free

    monkeypatch.setattr(locks, "_is_free", slow)
    with locked(tmp_path, host=B) as mine:
        assert not mine
        assert (found := holder(tmp_path)) is not None
        assert found.host == Host("d")
    held[0].__exit__(None, None, None)


def test_clocks_of_hosts_need_not_agree(tmp_path: Path, apart: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path, host=A):
        monkeypatch.setattr(time, "time", lambda: 4e9)
        assert is_locked(tmp_path, host=B)
        with locked(tmp_path, host=B) as mine:
            assert not mine


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 5}', "[" * 3000])
def test_an_owner_that_cannot_be_read_holds_the_lock_until_it_is_silent(
    tmp_path: Path, apart: None, content: str
) -> None:
    (tmp_path / ".lock").touch()
    path = tmp_path / ".lock.7"
    path.write_text(content)
    assert is_locked(tmp_path, host=B)
    os.utime(path, (0, 0))
    with locked(tmp_path, host=B) as mine:
        assert mine


def test_a_lock_excludes_others_and_ends_with_its_process(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    code = (
        "import sys; from pathlib import Path; from mtlbench.locks import locked\n"
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
        "import sys; from pathlib import Path; from mtlbench.locks import is_locked\n"
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
