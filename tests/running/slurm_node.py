"""A cluster of Slurm with one node, this machine: its daemons, on free ports of loopback, in a folder of their own.

`python tests/running/slurm_node.py FOLDER` starts one and prints what to type to use it; Ctrl-C ends it. Debian has the
programs as `slurm-wlm` and `munge`. Nothing of an installed cluster is touched: configuration, keys, ports, states and
logs are in FOLDER.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")

CONFIGURATION = """\
ClusterName=mtlbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
"""Without a database; a job that is put back may start again after `cred_expire` seconds, two minutes by default."""


def missing() -> str:
    """Why no node is started here; empty if one is. Daemons are started only where somebody asks for them."""
    if os.environ.get("MTLBENCH_TEST_SLURM") != "1":
        return "starts daemons of Slurm: set MTLBENCH_TEST_SLURM=1"
    found = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    if absent := [name for name in PROGRAMS if shutil.which(name, path=found) is None]:
        return f"needs Slurm and munge (Debian: slurm-wlm, munge); there is no {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "slurmd can only be started by root"


@contextlib.contextmanager
def node(folder: Path, cpus: int) -> Iterator[dict[str, str]]:
    """Run the daemons while open; yields the variables that commands of Slurm need. `folder` is theirs alone."""
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    with _ports(2) as ports:
        text = CONFIGURATION.format(host=socket.gethostname(), ports=ports, folder=folder, cpus=cpus)
    (folder / "slurm.conf").write_text(text)
    variables = {"SLURM_CONF": str(folder / "slurm.conf")}
    own = {name: f"{folder}/munged.{name}" for name in ("pid", "log", "seed")}
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munged += [f"--pid-file={own['pid']}", f"--log-file={own['log']}", f"--seed-file={own['seed']}"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_daemon(munged, folder, {}))
        _until(lambda: (folder / "munge.socket").exists(), folder)
        stack.enter_context(_daemon(["slurmctld", "-D"], folder, variables))
        stack.enter_context(_daemon(["slurmd", "-D"], folder, variables))
        _until(lambda: _answers(variables), folder)
        try:
            yield variables
        finally:
            subprocess.run(["scancel", "--user=root"], env={**os.environ, **variables}, check=False)
            with contextlib.suppress(TimeoutError):
                _until(lambda: not _asked(["squeue", "--noheader"], variables), folder, seconds=20)


@contextlib.contextmanager
def _ports(count: int) -> Iterator[list[int]]:
    """Ports that are free until they are let go of."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def _daemon(command: list[str], folder: Path, variables: dict[str, str]) -> Iterator[None]:
    environment = {**os.environ, **variables, "PATH": f"{os.environ['PATH']}:/usr/sbin:/usr/bin"}
    with (folder / f"{command[0]}.out").open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _asked(command: list[str], variables: dict[str, str]) -> str:
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    ).stdout.strip()


def _answers(variables: dict[str, str]) -> bool:
    return _asked(["sinfo", "--noheader", "--format=%T"], variables) == "idle"


def _until(condition, folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in folder.glob("*.out"))
            raise TimeoutError(f"Slurm does not come up:\n{logs}")
        time.sleep(0.1)


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    if why := missing():
        sys.exit(why)
    with node(folder, os.cpu_count() or 1) as variables, contextlib.suppress(KeyboardInterrupt):
        for name, value in variables.items():
            print(f"export {name}={value}", flush=True)
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main()
