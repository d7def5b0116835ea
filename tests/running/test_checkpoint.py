"""A cell goes on only from what it can have come to, on the data it began with; all else is named, kept, begun anew."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import random
import re
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

from mtlbench.catalogue import building
from mtlbench.record.schema import CHECKPOINT, Record
from mtlbench.running import checkpoint, provenance
from mtlbench.running.provenance import Origin
from mtlbench.running.training import Interrupted

SGD = "protocol.optimizer.name=sgd protocol.optimizer.momentum=0.9"
WORDS = "method=gradvac task=tiny"
STEP = 12
"""Where the cells of this file are cut off: within the second of three epochs of eight steps."""


def measured(record: Record) -> Any:
    return record.status, record.evaluations, record.diagnostics


@pytest.fixture
def cut(train: Callable[..., Record], tmp_path: Path) -> Callable[..., Path]:
    """Cut a cell off after `STEP` steps; its checkpoint."""

    def cut_off(words: str = WORDS, steps: int = STEP) -> Path:
        asked = iter(range(steps))
        with pytest.raises(Interrupted):
            train(words, tmp_path / "cut", should_stop=lambda: next(asked, None) is None)
        return tmp_path / "cut" / CHECKPOINT

    return cut_off


def read(path: Path) -> dict[str, Any]:
    return dict(torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True))


def write(path: Path, state: Any) -> bytes:
    """Write a checkpoint whose digest is right, whatever it holds."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue()
    path.write_bytes(content)
    return content


def put(*place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        inner: Any = state
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value

    return change


def drop(*place: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        inner: Any = state
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]

    return change


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


OPTIMIZER = ("parts", 0, "optimizer")
METHOD = ("parts", 0, "backward", "method")

IMPOSSIBLE: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "step beyond the end": (put("step", value=25), "step 25 is beyond the end, which is step 24"),
    "step below zero": (put("step", value=-1), "step"),
    "step that is no number": (put("step", value="12"), "step"),
    "step that is true": (put("step", value=True), "step"),
    "step in another epoch": (put("step", value=20), r"evaluations after epochs \[1\], not \[1, 2\]"),
    "no evaluations": (put("evaluations", value=[]), r"evaluations after epochs \[\], not \[1\]"),
    "evaluations that are no list": (put("evaluations", value=7), "evaluations"),
    "evaluation at another step": (put("evaluations", 0, "step", value=9), "is of step 9"),
    "evaluation without a split": (drop("evaluations", 0, "scores", "test"), r"has scores on \['val'\]"),
    "evaluation without an objective": (drop("evaluations", 0, "scores", "val", "a"), "has no val score of a mse"),
    "evaluation without a metric": (put("evaluations", 0, "scores", "val", "a", value={}), "no val score of a mse"),
    "evaluation of a stranger": (put("evaluations", 0, "scores", "val", "c", value={}), "c, which is no objective"),
    "evaluation of NaN": (put("evaluations", 0, "scores", "val", "a", "mse", value=float("nan")), "finite"),
    "losses of a stranger": (put("evaluations", 0, "losses", "c", value=1.0), "losses of c"),
    "sums of another K": (put("loss_sums", value=zeros(3)), "loss_sums is"),
    "sums of another dtype": (put("loss_sums", value=torch.zeros(2)), "loss_sums is"),
    "sums that are no tensor": (put("loss_sums", value=[0.0, 0.0]), "loss_sums"),
    "more losses than steps": (put("loss_counts", value=zeros(2) + 5), r"loss_counts is \[5.0, 5.0\] after 4 steps"),
    "counts below zero": (put("loss_counts", value=zeros(2) - 1), "loss_counts is"),
    "counts of halves": (put("loss_counts", value=zeros(2) + 0.5), "loss_counts is"),
    "blocks that are no list": (put("block_seconds", value=zeros(2, 2)), "block_seconds"),
    "blocks of no steps": (put("block_seconds", value=zeros(13)), "13 blocks cannot hold 12 steps"),
    "steps in no blocks": (put("block_seconds", value=zeros(0)), "0 blocks cannot hold 12 steps"),
    "blocks of NaN seconds": (put("block_seconds", value=zeros(2) + float("nan")), "block_seconds"),
    "negative seconds": (put("seconds_training", value=-1.0), "seconds_training"),
    "infinite seconds": (put("seconds_evaluation", value=float("inf")), "seconds_evaluation"),
    "negative memory": (put("peak_memory", value=-1), "peak_memory"),
    "resumed that is text": (put("resumed", value="often"), "resumed"),
    "started that is a number": (put("started", value=5), "started"),
    "no precision": (drop("precision"), "precision"),
    "unknown precision": (put("precision", value="float8"), "precision"),
    "unknown key": (put("extra", value=1), "extra"),
    "commit that is an option": (put("origin", "commit", value="--output=stolen"), "commit"),
    "origin that is a list": (put("origin", value=[]), "origin"),
    "no parts": (put("parts", value=[]), "holds 0 models, the cell has 1"),
    "two parts": (lambda state: state["parts"].append(state["parts"][0]), "holds 2 models, the cell has 1"),
    "a part that is a number": (put("parts", 0, value=3), "parts"),
    "a part without its optimiser": (drop("parts", 0, "optimizer"), "a model's state has"),
    "weights of another shape": (put("parts", 0, "model", "encoder.bias", value=torch.zeros(9)), "model encoder.bias"),
    "weights of another dtype": (put("parts", 0, "model", "encoder.bias", value=torch.zeros(8).int()), "torch.int32"),
    "weights that are missing": (drop("parts", 0, "model", "encoder.bias"), "encoder.bias"),
    "an optimiser without state": (put(*OPTIMIZER, "state", value={}), "no state of what was trained"),
    "a moment that is missing": (drop(*OPTIMIZER, "state", 0, "exp_avg"), "of parameter 0"),
    "a moment of another shape": (put(*OPTIMIZER, "state", 0, "exp_avg", value=zeros(3)), "exp_avg of parameter 0"),
    "a moment of a stranger": (put(*OPTIMIZER, "state", 99, value={}), "of parameter 99"),
    "an optimiser ahead of its cell": (put(*OPTIMIZER, "state", 0, "step", value=zeros(1)[0] + 13), "took 13 of 12"),
    "other groups of parameters": (put(*OPTIMIZER, "param_groups", value=[]), "group"),
    "a state of the method of another shape": (put(*METHOD, "target", value=zeros(1, 3, 3)), "method target"),
    "a state of the method for another K": (put(*METHOD, "_extra_state", "objectives", value=3), "is 3, not 2"),
    "parameters in another order": (put(*OPTIMIZER, "param_groups", 0, "params", 0, value=1), "other groups"),
    "a generator of three bytes": (put(*METHOD, "_extra_state", "generator", value=torch.zeros(3).byte()), "generator"),
    "other groups": (put("parts", 0, "backward", "groups", value=["all", "more"]), "2 groups"),
    "a state of the method that is none": (put("parts", 0, "backward", "method", value=None), "method"),
}  # fmt: skip


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_a_checkpoint_that_its_cell_cannot_have_come_to_is_kept_and_the_cell_starts_again(
    train: Callable[..., Record], whole: Record, cut: Callable[..., Path], what: str
) -> None:
    change, says = IMPOSSIBLE[what]
    path = cut()
    state = read(path)
    change(state)
    bad = write(path, state)
    with pytest.warns(UserWarning, match=says) as told:
        record = train(WORDS, path.parent)
    (message,) = (str(w.message) for w in told if issubclass(w.category, UserWarning))
    assert message.startswith(str(path))
    assert message.endswith("; kept as checkpoint.pt.corrupt1, starting again.")
    assert (path.parent / "checkpoint.pt.corrupt1").read_bytes() == bad
    assert record.provenance.resumed == 0
    assert measured(record) == measured(whole)


@pytest.fixture(scope="module")
def kept() -> dict[str, Record]:
    return {}


@pytest.fixture
def whole(train: Callable[..., Record], kept: dict[str, Record], tmp_path: Path) -> Record:
    """The record of the cell without an interruption."""
    if not kept:
        kept["whole"] = train(WORDS, tmp_path / "whole")
    return kept["whole"]


def test_a_checkpoint_written_again_as_it_was_is_gone_on_from(
    train: Callable[..., Record], whole: Record, cut: Callable[..., Path]
) -> None:
    path = cut()
    write(path, read(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = train(WORDS, path.parent)
    assert record.provenance.resumed == 1
    assert measured(record) == measured(whole)


@pytest.mark.parametrize(
    ("place", "value"), [("momentum_buffer", torch.zeros(3)), ("momentum_buffer", None), ("exp_avg", torch.zeros(8, 6))]
)
def test_moments_that_sgd_cannot_have_are_refused(
    train: Callable[..., Record], cut: Callable[..., Path], place: str, value: torch.Tensor | None
) -> None:
    path = cut(f"{WORDS} {SGD}")
    state = read(path)
    state["parts"][0]["optimizer"]["state"][0][place] = value
    write(path, state)
    with pytest.warns(UserWarning, match="parameter 0"):
        assert train(f"{WORDS} {SGD}", path.parent).provenance.resumed == 0


def test_what_the_protocol_says_of_the_optimiser_is_not_taken_from_a_checkpoint(
    train: Callable[..., Record], whole: Record, cut: Callable[..., Path]
) -> None:
    path = cut()
    state = read(path)
    (group,) = state["parts"][0]["optimizer"]["param_groups"]
    group.update(betas=(0.0, 0.0), weight_decay=5.0)
    del group["eps"]
    write(path, state)
    record = train(WORDS, path.parent)
    assert record.provenance.resumed == 1
    assert measured(record) == measured(whole)


def test_a_mutated_checkpoint_never_ends_a_cell(
    train: Callable[..., Record], whole: Record, cut: Callable[..., Path]
) -> None:
    path = cut()
    good = read(path)
    nasty = [None, -1, 2**70, 1e400, "", [], {}, True, zeros(0), zeros(2, 2) - 1, b"x"]
    chosen = random.Random("nasty checkpoints").sample([*places(good)], 20)
    for number, place in enumerate(chosen):
        state = copy.deepcopy(good)
        put(*place, value=nasty[number % len(nasty)])(state)
        write(path, state)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            record = train(WORDS, path.parent)
        assert measured(record) == measured(whole), place  # begun anew, or only the time it took is another
        assert record.provenance.resumed > 0 or any("starting again" in str(w.message) for w in told), place


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested dictionaries and lists."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*at, key)
        yield from places(inner, (*at, key))


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "too large"])
def test_what_is_no_file_of_a_checkpoints_size_is_set_aside_and_not_read(
    train: Callable[..., Record], whole: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "cut" / CHECKPOINT
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(2**40)
    with pytest.warns(UserWarning, match=r"is damaged \(.*(not a regular file|larger than).*kept as"):
        assert measured(train(WORDS, path.parent)) == measured(whole)


def test_running_out_of_memory_while_reading_leaves_the_checkpoint_where_it_is(
    train: Callable[..., Record], cut: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cut()

    def starve(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "load", starve)
        with pytest.raises(torch.OutOfMemoryError):
            train(WORDS, path.parent)
    assert train(WORDS, path.parent).provenance.resumed == 1


# --- what may change while a cell is interrupted


def test_a_cell_begins_anew_on_other_data_and_both_digests_are_told(
    train: Callable[..., Record], whole: Record, cut: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cut()
    build = building.task_class("tiny").__init__

    def with_other_data(self: Any, *args: Any) -> None:
        build(self, *args)
        self.data_digest = "f" * 64
        x, y = self.splits["train"]
        self.splits["train"] = (x, -y)

    monkeypatch.setattr(building.task_class("tiny"), "__init__", with_other_data)
    with pytest.warns(UserWarning, match=rf"{'0' * 64}.*{'f' * 64}.*kept as checkpoint\.pt\.corrupt1"):
        record = train(WORDS, path.parent)
    assert (record.provenance.resumed, record.provenance.data_digest) == (0, "f" * 64)
    assert record.cost.steps == 24
    assert record.evaluations != whole.evaluations
    assert record.evaluations == train(WORDS, path.parent.parent / "fresh").evaluations


def origin(**changes: Any) -> Origin:
    return Origin(
        **{
            "commit": "a" * 40,
            "dirty": False,
            "method_digest": "b" * 64,
            "packages": {"torch": "2.12.0", "numpy": "2.0"},
            "host": "h",
            "hardware": "cpu of one",
            "device": "cpu",
            **changes,
        }
    )


def test_a_cell_that_goes_on_under_other_versions_says_so_and_its_record_holds_both(
    train: Callable[..., Record], whole: Record, cut: Callable[..., Path]
) -> None:
    path = cut()
    state = read(path)
    torch_now = state["origin"]["packages"]["torch"]
    state["origin"]["packages"]["torch"] = "1.0"
    state["origin"]["method_digest"] = "0" * 64
    state["origin"]["host"] = "elsewhere"
    write(path, state)
    with pytest.warns(UserWarning, match=rf"method 0{{12}}, now .*torch 1\.0, now {re.escape(torch_now)}"):
        record = train(WORDS, path.parent)
    found = record.provenance
    assert found.packages["torch"] == f"1.0 then {torch_now}"
    assert found.packages["numpy"] == whole.provenance.packages["numpy"]
    assert found.method_digest == f"{'0' * 64} then {whole.provenance.method_digest}"
    assert found.host == f"elsewhere then {whole.provenance.host}"
    assert measured(record) == measured(whole)
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_nothing_is_said_where_nothing_has_changed(train: Callable[..., Record], cut: Callable[..., Path]) -> None:
    path = cut()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = train(WORDS, path.parent)
    assert " then " not in str(record.provenance)


def test_an_origin_lists_what_has_changed_since_the_last_one() -> None:
    before = origin()
    now = origin(
        packages={"torch": "2.13.0", "scipy": "1.0"}, device="cuda:0", method_digest="c" * 64, hardware="gpu", host="i"
    )
    assert now.changes(before) == [
        f"source of the method {'b' * 12}, now {'c' * 12}",
        "torch 2.12.0, now 2.13.0",
        "numpy 2.0, now none",
        "scipy none, now 1.0",
        "device cpu, now cuda:0",
        "hardware cpu of one, now gpu",
    ]
    avx2, amx = ({"instructions": name, "onednn": "3.12.0"} for name in ("AVX2", "AVX512"))
    assert origin(kernels=amx).changes(origin(kernels=avx2)) == ["instructions AVX2, now AVX512"]
    assert origin(kernels=amx).changes(origin()) == []
    assert origin(kernels=amx).after(origin(kernels=avx2)).kernels["instructions"] == "AVX2 then AVX512"
    both = now.after(before)
    assert both.packages == {"torch": "2.12.0 then 2.13.0", "numpy": "2.0 then none", "scipy": "none then 1.0"}
    assert (both.device, both.host, both.dirty) == ("cpu then cuda:0", "h then i", False)
    assert now.changes(both) == []
    assert now.after(both) == both
    assert before.after(both).packages["torch"] == "2.12.0 then 2.13.0 then 2.12.0"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A checkout in which a file can be committed."""
    monkeypatch.setattr(provenance, "_TOP", tmp_path)

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(file: str, text: str) -> str:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        git("add", file)
        git("commit", "-qm", "change")
        return git("rev-parse", "HEAD")

    git("init", "-q")
    return commit


def test_a_commit_of_results_alone_is_no_change_of_the_source_and_one_of_code_is(checkout: Callable[..., str]) -> None:
    first = checkout("code.py", "1")
    second = checkout("results/record.json", "{}")
    third = checkout("code.py", "2")
    assert origin(commit=second).changes(origin(commit=first)) == []
    assert origin(commit=second).after(origin(commit=first)).dirty is False
    assert origin(commit=third).changes(origin(commit=second)) == [f"commit {second[:12]}, now {third[:12]}"]
    assert origin(commit=third).after(origin(commit=second)).dirty is True
    assert origin(commit=third).changes(origin(commit="e" * 40)) == [f"commit {'e' * 12}, now {third[:12]}"]
    assert origin(commit=None, dirty=None).after(origin(commit=first)).dirty is None


def test_a_record_names_the_commit_of_the_checkout(train: Callable[..., Record]) -> None:
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        pytest.skip("this is no checkout")
    provenance.source_commit.cache_clear()  # what it was when an earlier test asked
    assert train(WORDS).provenance.commit == head.stdout.strip()


def test_kernels_name_instructions_libraries_and_the_variables_that_choose_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    provenance.kernels.cache_clear()
    found = provenance.kernels()
    provenance.kernels.cache_clear()
    assert found["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert found["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    if torch.backends.mkldnn.is_available():
        assert found["onednn"][0].isdigit()
    assert "MKL_CBWR" not in found
