"""Runs `mtlbench` commands in forked processes that need not import torch again; told what to do on standard input.

A command behaves as if it had been typed: it is a process of its own, leads its own process group and can be
killed. Only the seconds that importing torch takes are missing.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

import torch

import mtlbench.cli
import mtlbench.launch
import mtlbench.leaderboard
import mtlbench.terminal
import mtlbench.training


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        answer = _start(request) if "words" in request else os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        print(json.dumps(answer), flush=True)


def _start(request: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        mtlbench.cli.main(request["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
