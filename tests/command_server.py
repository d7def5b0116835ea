"""Runs `mtlbench` commands in forked processes that need not import torch again; told what to do on standard input.

A command behaves as if it had been typed: it is a process of its own, leads its own process group, starts a
process for each cell, and all of them can be killed. Only the seconds that importing torch takes are missing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

import mtlbench.cli.main
import mtlbench.cli.progress
import mtlbench.cli.run
import mtlbench.running.launch
import mtlbench.running.training
import mtlbench.running.worker
import mtlbench.tables.leaderboard
from mtlbench.running.launchers import boot
from mtlbench.running.launchers.local import Local


class ForkedWorker:
    """What the local launcher uses of `subprocess.Popen`, to start a worker."""

    def __init__(self, command: list[str], stderr: int, env: dict[str, str], **_: Any) -> None:
        assert command[1:] == ["-P", boot.__file__]
        child_in, parent_out = os.pipe()
        parent_in, child_out = os.pipe()
        sys.stdout.flush()
        # In the middle of a fork Python would take up a Ctrl-C in a hook whose exceptions are ignored; `Popen` has none
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self.pid = os.fork()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if not self.pid:
            os.setsid()
            for source, target in ((child_in, 0), (child_out, 1), (stderr, 2)):
                os.dup2(source, target)
            os.closerange(3, 256)  # above all, the ends of pipes to other workers
            os.environ.update(env)
            _end_with(mtlbench.running.worker.main)
        os.close(child_in)
        os.close(child_out)
        self.stdin = os.fdopen(parent_out, "wb")
        self.stdout = os.fdopen(parent_in, "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        answer = _start(request) if "words" in request else os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        print(json.dumps(answer), flush=True)


def _start(request: dict[str, Any]) -> int:
    pid = os.fork()
    if not pid:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        if slow := float(os.environ.get("SLOW_DISK", 0)):
            quick = os.fsync
            os.fsync = lambda file: time.sleep(slow) or quick(file)  # type: ignore[assignment]
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        if not request["new_workers"]:
            Local.popen = ForkedWorker
        _end_with(lambda: mtlbench.cli.main.main(request["words"]))
    return pid


def _end_with(last: Callable[[], None]) -> None:
    """Run `last` as if nothing else were in this process, and end it."""
    code = 1
    try:
        sys.stdin = os.fdopen(0, closefd=False)
        last()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


if __name__ == "__main__":
    main()
