"""Bad words end with exit code 2 and one helpful message, before anything is written or trained."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CELL = "method=gradvac task=multimnist"

CASES = {
    "method": ("method=gradvaq task=multimnist", ["'gradvaq'", "Did you mean 'gradvac'", "pcgrad"]),
    "task": ("method=gradvac task=multimnst", ["'multimnst'", "Did you mean 'multimnist'"]),
    "variant": ("method=gradvac task=multimnist/digit", ["'digit'", "Did you mean 'digits'", "fashion_and_mnist"]),
    "key": (f"{CELL} sed=1", ["'sed'", "Did you mean 'seed'", "granularity"]),
    "not a word": (f"{CELL} uniform", ["'uniform'", "key=value"]),
    "no method": ("task=multimnist", ["method=NAME", "gradvac"]),
    "no task": ("method=gradvac", ["task=NAME", "multimnist"]),
    "parameter": (f"{CELL} method.bta=1", ["'method.bta'", "Did you mean 'method.beta'", "method.target"]),
    "parameter of none": ("method=uniform task=multimnist method.beta=1", ["'method.beta'", "no parameters"]),
    "type": (f"{CELL} method.beta=high", ["beta=high ", "float in (0, 1]"]),
    "range": (f"{CELL} method.beta=2", ["beta=2 ", "float in (0, 1]"]),
    "choice": ("method=mgda task=multimnist method.normalize=l3", ["normalize=l3 ", "l2", "loss+"]),
    "boolean": (f"{CELL} method.shuffle=perhaps", ["shuffle=perhaps ", "bool"]),
    "infinite": ("method=gradnorm task=multimnist method.lr=inf", ["method.lr=inf", "finite"]),
    "empty range": (f"{CELL} seed=3..1", ["seed=3..1", "no cells"]),
    "empty value": (f"{CELL} seed=", ["seed=", "no cells"]),
    "negative seed": (f"{CELL} seed=-1", ["seed=-1", "at least 0"]),
    "seed": (f"{CELL} seed=one", ["seed=one", "whole number"]),
    "data": ("method=gradvac task=multimnist/mnist", ["MNIST", "MTLBENCH_DATA", "mtlbench data fetch"]),
    "data root": (
        "method=gradvac task=multimnist/mnist data_root=nowhere",
        ["MNIST", "nowhere/mnist/MNIST/raw/train-images-idx3-ubyte.gz", "mtlbench data fetch"],
    ),
    "word of another task": (f"{CELL} direction=en2x", ["direction=", "task nmt", "not of multimnist", "show TASK"]),
    "word of one of two tasks": ("method=uniform task=nmt,multimnist direction=en2x", ["nmt", "not of multimnist"]),
    "word of no named task": ("method=uniform direction=en2x", ["direction=", "task nmt", "no task is named"]),
    "word of no task": ("method=uniform task=nmt directoin=en2x", ["Did you mean 'direction'", "languages", "seed"]),
    "number of objectives": (
        "method=uniform,scalarization task=multimnist method.weights=[1,2,3]",
        ["scalarization", "3 numbers", "2 objectives"],
    ),
    "device": (f"{CELL} device=gpu", ["device=gpu", "cuda"]),
    "absent device": (f"{CELL} device=cuda:99", ["device=cuda:99", "cpu"]),
    "granularity": (f"{CELL} granularity=all_layers", ["'all_layers'", "Did you mean 'all_layer'", "whole_model"]),
    "granularity of the task": (f"{CELL} granularity=enc_dec", ["enc_dec", "decoder", "all_layer"]),
    "treated": (f"{CELL} treated=lrl", ["'lrl'", "multimnist/digits", "left, right", "[NAME,NAME]"]),
    "treated by nobody": (f"{CELL} treated=[]", ["treated=[]"]),
    "against": (f"{CELL} against=unifrom", ["'unifrom'", "Did you mean 'uniform'"]),
    "two to compare with": (f"{CELL} against=uniform,pcgrad", ["against", "one value"]),
    "dtype": (f"{CELL} jacobian_dtype=float16", ["'float16'", "bfloat16"]),
    "protocol": (f"{CELL} protocol=digit", ["'digit'", "Did you mean 'digits'"]),
    "protocol of another variant": (f"{CELL} protocol=sener2018", ["'sener2018'", "digits"]),
    "protocol key": (f"{CELL} protocol.epoch=1", ["'epoch'", "Did you mean 'epochs'"]),
    "protocol identity": (f"{CELL} protocol.version=7", ["'version'", "epochs"]),
    "protocol range": (f"{CELL} protocol.epochs=-1", ["protocol.epochs=-1", "greater than or equal to 0"]),
    "protocol type": (f"{CELL} protocol.epochs=some", ["protocol.epochs=some", "integer"]),
    "protocol choice": (f"{CELL} protocol.optimizer.name=lion", ["optimizer.name=lion", "adamw"]),
    "protocol infinite": (f"{CELL} protocol.optimizer.lr=inf", ["protocol.optimizer.lr=inf", "finite"]),
    "optimizer's own rule": (f"{CELL} protocol.optimizer.betas=[0.9,2]", ["protocol.optimizer", "beta"]),
    "task's own rule": (f"{CELL} protocol.options.dropout=2", ["protocol.options.dropout", "less than 1"]),
    "jobs": (f"{CELL} jobs=0", ["jobs=0", "at least 1"]),
    "the same key twice": ("method=pcgrad method=gradvac task=multimnist", ["method= is given twice", "method=A,B"]),
    "a word and its key": (
        "method=uniform task=nmt direction=both protocol.options.direction=x2en",
        ["direction= and protocol.options.direction= are the same key"],
    ),
    "a path twice": (f"{CELL} results=a results=b", ["results= is given twice; give it once."]),
    "last part of a key": (f"{CELL} lr=0.1", ["'lr'", "Did you mean 'protocol.optimizer.lr'?"]),
    "last part of a parameter": (f"{CELL} beta=0.1", ["'beta'", "Did you mean 'method.beta'?"]),
    "open bracket": (f"{CELL} method.beta=[1,2", ["[ without its ]"]),
    "many digits": (f"{CELL} seed={'9' * 5000}", ["seed=999", "whole number"]),
    "many digits of a range": (f"{CELL} seed=0..{'9' * 5000}", ["seed=0..999", "whole number"]),
    "large seed": (f"{CELL} seed={2**63}", ["at most"]),
    "user": (f"{CELL} results=~nosuchuser/x", ["~nosuchuser"]),
    "huge grid": (f"{CELL} protocol.epochs=1..9999 protocol.batch_size=1..9999", ["99980001 cells", "10000"]),
    "huge tuned grid": (f"{CELL} tune=9999 seed=0,1", ["10005 cells"]),
    "time": (f"{CELL} time_limit=nan", ["time_limit=nan", "number"]),
    "no time": (f"{CELL} time_limit=0", ["time_limit=0", "at least"]),
    "no plug-in": (f"--plugin nowhere.py {CELL}", ["nowhere.py", "no such file"]),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_words_are_refused_with_what_is_allowed_and_nothing_is_written(
    name: str, command: Callable, tmp_path: Path
) -> None:
    words, says = CASES[name]
    result = command(f"run {words}" if "results=" in words else f"run {words} results=here")
    assert result.code == 2, result.output
    assert "Traceback" not in result.output
    assert result.output.startswith("error: ")
    assert result.output.count("error:") == 1
    for text in says:
        assert text in result.output
    assert list(tmp_path.iterdir()) == []


def test_the_typed_command_refuses_in_the_same_way(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("mtlbench"), "run", "method=gradvaq", "task=multimnist"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Did you mean 'gradvac'" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_only_the_task_can_judge_is_refused_before_training(
    command: Callable, tiny: Path, tmp_path: Path
) -> None:
    result = command(f"run --plugin {tiny} method=uniform task=tiny protocol.options.size=5000 results=here")
    assert result.code == 2
    assert "at most 1000" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_plug_in_that_takes_a_known_name_is_refused_naming_both_files(command: Callable, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import mtlbench\n\n@mtlbench.register_method('gradvac')\nclass Mine(mtlbench.LossWeighting):\n"
        "    def scalarize(self, losses):\n        return losses.sum()\n"
    )
    result = command("run --plugin mine.py method=gradvac task=multimnist results=here")
    assert result.code == 2
    assert str(plugin) in result.output
    assert "methods/gradvac.py" in result.output
    assert not (tmp_path / "here").exists()


def test_the_words_of_a_task_are_listed_with_what_they_stand_for(command: Callable) -> None:
    shown = command("show nmt").output
    assert "direction=VALUE, short for protocol.options.direction=VALUE" in shown
    assert "words of its own" not in command("show multimnist").output
    assert "`mtlbench show TASK`" in command("run --help").output


def test_help_and_list_read_no_protocols(tmp_path: Path) -> None:
    code = (
        "import sys; from mtlbench.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: print(*sys.modules)"
    )
    for words, own in ((["run", "--help"], "mtlbench.cli.arguments"), (["list"], "mtlbench.catalogue.registry")):
        ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        loaded = ran.stdout.splitlines()[-1].split()
        assert own in loaded
        assert not {"yaml", "torch", "mtlbench.catalogue.protocol"} & set(loaded)


def test_a_refused_grid_leaves_earlier_results_alone(command: Callable, tmp_path: Path) -> None:
    results = tmp_path / "here"
    results.mkdir()
    (results / "note").write_text("mine")
    assert command("run method=scalarization method.weights=[1] task=multimnist results=here").code == 2
    assert [p.name for p in results.iterdir()] == ["note"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("show gradvca", "Did you mean 'gradvac'"),
        ("table task=multimnist results=empty", "No cells under empty"),
        ("table tsk=multimnist", "Did you mean 'task'"),
        ("status result=x", "Did you mean 'results'"),
        ("data fetch multimnst/mnist", "Did you mean 'multimnist'"),
        ("data fetch multimnist/mnst data_root=x", "Did you mean 'mnist'"),
    ],
)
def test_bad_words_of_the_other_commands_are_refused(command: Callable, words: str, says: str) -> None:
    result = command(words)
    assert result.code == 2
    assert says in result.output
    assert "Traceback" not in result.output
