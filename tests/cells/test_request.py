"""Words become validated cells: grids, types, defaults, and an identity that depends on the configuration alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mtlbench.catalogue import building, registry
from mtlbench.catalogue.variants import task_data
from mtlbench.cells.cell import Cell
from mtlbench.cells.request import parse
from mtlbench.cells.words import read_words, task_words
from mtlbench.errors import UsageError
from mtlbench.tasks.nmt.options import options


def cells(words: str) -> list[Cell]:
    return parse(words.split()).cells


def one(words: str) -> Cell:
    (cell,) = cells(words)
    return cell


def from_file(tmp_path: Path, text: str, words: str = "") -> list[Cell]:
    (tmp_path / "grid.yaml").write_text(text)
    return parse([str(tmp_path / "grid.yaml"), *words.split()]).cells


def test_lists_and_ranges_make_a_grid() -> None:
    found = cells("method=gradvac,uniform task=multimnist seed=0..2,7 protocol.epochs=1,2")
    assert len(found) == 2 * 4 * 2
    assert {c.seed for c in found} == {0, 1, 2, 7}
    assert {c.protocol.epochs for c in found} == {1, 2}


def test_brackets_make_one_value_that_is_a_list() -> None:
    found = cells("method=scalarization task=multimnist method.weights=[1,2],[0.5,1e-1]")
    assert [c.parameters["weights"] for c in found] == [[1.0, 2.0], [0.5, 0.1]]


def test_words_override_the_yaml_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    text = "method: [gradvac, uniform]\ntask: multimnist\nseed: 0..1\nprotocol.epochs: 3\n"
    found = from_file(tmp_path, text, "seed=5 method=uniform")
    assert [(c.method, c.seed, c.protocol.epochs) for c in found] == [("uniform", 5, 3)]


def test_yaml_values_are_read_as_the_declared_type(tmp_path: Path) -> None:
    text = (
        "method: gradvac\ntask: multimnist\nmethod.beta: 1e-3\nmethod.shuffle: no\n"
        "method.target: 0\nprotocol.optimizer.lr: 1e-4\nprotocol.autocast: yes\n"
    )
    (cell,) = from_file(tmp_path, text)
    assert cell.parameters == {"beta": 0.001, "shuffle": False, "target": 0.0}
    assert cell.protocol.optimizer.lr == 1e-4
    assert cell.protocol.autocast is True


def test_the_same_configuration_from_words_and_from_yaml_is_the_same_cell(tmp_path: Path) -> None:
    text = "task: multimnist\nseed: 2\nmethod: scalarization\nmethod.weights: [[1, 2]]\nprotocol.epochs: 2\n"
    word = one("protocol.epochs=2 method.weights=[1.0,2] seed=2 method=scalarization task=multimnist/digits")
    assert from_file(tmp_path, text)[0].id == word.id


def test_none_is_a_value_where_the_type_allows_it() -> None:
    assert one("method=gradvac task=multimnist method.target=none").parameters["target"] is None
    assert one("method=mgda task=multimnist method.normalize=none").parameters["normalize"] == "none"


def test_a_parameter_applies_to_the_methods_that_have_it() -> None:
    found = cells("method=gradvac,pcgrad,uniform task=multimnist method.beta=0.1,0.2")
    assert [(c.method, c.parameters.get("beta")) for c in found] == [
        ("gradvac", 0.1),
        ("gradvac", 0.2),
        ("pcgrad", None),
        ("uniform", None),
    ]


def test_a_task_s_own_word_makes_the_cells_of_the_key_that_it_stands_for() -> None:
    for short, full in (
        ("task=nmt direction=en2x", "task=nmt protocol.options.direction=en2x"),
        ("direction=x2en,en2x task=nmt", "task=nmt protocol.options.direction=x2en,en2x"),
        (
            "task=nmt/bible,nmt/multi30k languages=[de,fr]",
            "task=nmt/bible,nmt/multi30k protocol.options.languages=[de,fr]",
        ),
        ("task=nmt direction=both tune=2", "task=nmt protocol.options.direction=both tune=2"),
    ):
        words, keys = cells(f"method=gradvac {short}"), cells(f"method=gradvac {full}")
        assert [(c.id, c.name, c.protocol.label) for c in words] == [(c.id, c.name, c.protocol.label) for c in keys]
    assert {c.protocol.options["direction"] for c in words} == {"both"}


def test_a_typed_word_takes_the_place_of_the_file_s_by_whichever_name(tmp_path: Path) -> None:
    file = "method: uniform\ntask: nmt\ndirection: [en2x, both]\n"
    assert [c.protocol.options["direction"] for c in from_file(tmp_path, file)] == ["en2x", "both"]
    for typed in ("direction=x2en", "protocol.options.direction=x2en"):
        (cell,) = from_file(tmp_path, file, typed)
        assert cell.protocol.options["direction"] == "x2en"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: 1\ntask: multimnist\nseed: 2\n", "'seed' stands twice in line 3"),
        ("task: nmt\ndirection: en2x\nprotocol.options.direction: both\n", "are the same key"),
        ("task: multimnist\nprotocol: {epochs: 3}\nprotocol.epochs: 4\n", "protocol.epochs is there twice"),
        ("task: multimnist\nprotocol: {}\n", "protocol is empty"),
        ("task: multimnist\nseed: [[[0]]]\n", "seed must be a value or a list of values"),
        ("task: multimnist\nseed: [{a: 0}]\n", "seed must be a value or a list of values"),
        ("? [a, b]\n: c\n", "found unhashable key in line 1"),
        ("seed: []\n", "seed is empty"),
        ("- seed\n", "must map keys to values"),
        ("seed: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("seed: " + "9" * 5000, "whole number"),
        ("seed: 2024-01-01\n", "seed=2024-01-01 is not allowed"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_file_that_no_words_could_say_is_refused_with_the_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        from_file(tmp_path, text, "method=uniform" if "task" in text else "method=uniform task=multimnist")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 010", "seed=010"),
        ("seed: 0x10", None),
        ("seed: 1_0", "seed=1_0"),
        ("protocol.optimizer.lr: 1e-3", "protocol.optimizer.lr=1e-3"),
        ("protocol.autocast: on", "protocol.autocast=on"),
        ("method.shuffle: n", "method.shuffle=n"),
    ],
)
def test_a_value_in_a_file_means_what_it_means_when_typed(tmp_path: Path, text: str, words: str | None) -> None:
    cell = f"method: gradvac\ntask: multimnist\n{text}\n"
    if words is None:
        with pytest.raises(UsageError):
            from_file(tmp_path, cell)
    else:
        assert [c.id for c in from_file(tmp_path, cell)] == [
            c.id for c in cells(f"method=gradvac task=multimnist {words}")
        ]


def test_nested_keys_in_a_file_are_dotted_ones(tmp_path: Path) -> None:
    text = "method: uniform\ntask: multimnist\nprotocol:\n  epochs: [1, 2]\n  optimizer: {name: sgd, lr: 0.1}\n"
    words = "protocol.epochs=1,2 protocol.optimizer.name=sgd protocol.optimizer.lr=0.1"
    assert [c.id for c in from_file(tmp_path, text)] == [c.id for c in cells(f"method=uniform task=multimnist {words}")]


def test_codes_of_languages_in_a_file_are_no_booleans(tmp_path: Path) -> None:
    (cell,) = from_file(tmp_path, "method: uniform\ntask: nmt/multi30k\nlanguages: [[no, de]]\n")
    assert cell.protocol.options["languages"] == ["no", "de"]


def test_a_fifo_is_no_grid_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "grid.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        parse([str(tmp_path / "grid.yaml"), "method=uniform"])


def test_a_path_is_one_value_with_its_commas_and_brackets(tmp_path: Path) -> None:
    for path in ("a,b", "[x]", "0..3", "a, b"):
        assert parse(["method=uniform", "task=multimnist", f"results={path}", f"data_root={path}"]).results == Path(
            path
        )
        assert read_words([f"results={path}"], ("results",)) == {"results": [path]}
    (tmp_path / "grid.yaml").write_text("method: uniform\ntask: multimnist\nresults: a,b\n")
    assert parse([str(tmp_path / "grid.yaml")]).results == Path("a,b")


def test_a_huge_grid_is_counted_and_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the grid is made")

    monkeypatch.setattr("mtlbench.cells.request.resolve", never)
    with pytest.raises(UsageError, match="99980001 cells"):
        cells("method=uniform task=multimnist protocol.epochs=1..9999 protocol.batch_size=1..9999")
    with pytest.raises(UsageError, match="more than 10000 values"):
        read_words([f"seed={','.join(['0..9998'] * 9)}"])
    # what does not multiply the grid of a method is not counted for it
    with pytest.raises(AssertionError, match="the grid is made"):
        cells("method=uniform task=multimnist granularity=whole_model,all_layer seed=0..9999")


def test_a_value_without_a_declared_type_is_the_same_cell_from_words_and_from_yaml(tmp_path: Path) -> None:
    text = "method: uniform\ntask: nmt/multi30k\nlanguages: [[de, fr]]\nobjectives_per_step: 2\n"
    (typed,) = from_file(tmp_path, text)
    word = one("method=uniform task=nmt/multi30k languages=[de,fr] protocol.options.objectives_per_step=2")
    (quoted,) = from_file(tmp_path, text.replace(": 2", ': "2"'))
    assert typed.id == word.id == quoted.id
    read = options(word.protocol)
    assert (read.languages, read.objectives_per_step) == (("de", "fr"), 2)
    given = one("method=uniform task=nmt/multi30k languages=null objectives_per_step=none")
    assert given.id == one("method=uniform task=nmt/multi30k").id


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("-3", -3),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("True", True),
        ("none", None),
        ("[no,nan,inf,fr]", ["no", "nan", "inf", "fr"]),  # codes of languages
        ("[1,0.5]", [1, 0.5]),
    ],
)
def test_a_value_without_a_declared_type_is_what_it_looks_like(typed: str, value: object) -> None:
    found = one(f"method=uniform task=nmt languages={typed}").protocol.options["languages"]
    assert found == value
    assert type(found) is type(value)


def test_what_a_protocol_may_lack_can_be_left_out_by_none() -> None:
    assert one("method=uniform task=nmt protocol.clip_norm=none").protocol.clip_norm is None
    with pytest.raises(UsageError, match=r"protocol.epochs=None is not allowed"):
        one("method=uniform task=nmt protocol.epochs=none")


def test_words_of_all_built_in_tasks_can_be_used() -> None:
    for name in registry.tasks.names():
        for word, key in task_words(name).items():
            for protocol in task_data(name).protocols.values():
                assert key.split(".")[-1] in protocol.options, (name, word)


def declare(name: str, **data: object) -> None:
    """A task like the tiny one but for some of the data that it declares."""
    tiny = building.task_class("tiny")
    module = sys.modules[tiny.__module__]
    protocols = {
        "variants": {"plain": {"description": "", "protocol": "short"}},
        "protocols": {"short": module.PROTOCOL},
    }
    registry.register_task(name, protocols={**protocols, **data})(type(name, (tiny,), {}))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"words": {"drop": "options.dropuot"}}, "word 'drop'.*Did you mean 'options.dropout'"),
        ({"words": {"drop": "version"}}, "word 'drop'.*'version'"),
        ({"words": {"seed": "options.size"}}, "word 'seed'.*key of every run"),
        ({"words": {"method": "options.size"}}, "word 'method'.*key of every run"),
        ({"words": {"a.b": "options.size"}}, "cannot be read.*a.b"),
        ({"word": {"drop": "options.dropout"}}, "cannot be read.*word"),
    ],
)
def test_words_that_no_run_could_use_are_refused_with_any_words_of_a_run(tiny: Path, data: dict, says: str) -> None:
    name = f"declares_{len(registry.tasks.entries())}"
    declare(name, **data)
    with pytest.raises(UsageError, match=f"(?s){says}"):
        parse(["method=uniform", f"task={name}"])


def test_a_word_of_two_tasks_is_for_both_if_it_means_the_same(tiny: Path) -> None:
    for name, key in (("first", "dropout"), ("second", "dropout"), ("third", "size")):
        declare(name, words={"amount": f"options.{key}"})
    assert [c.protocol.modified for c in cells("method=uniform task=first,second amount=0.1")] == [
        {"options.dropout": 0.1},
        {"options.dropout": 0.1},
    ]
    with pytest.raises(UsageError, match=r"options.dropout of first, protocol.options.size of third. Run them one by"):
        cells("method=uniform task=first,third amount=1")


def test_granularity_and_dtype_mean_nothing_to_methods_that_see_no_gradients() -> None:
    found = cells("method=uniform,pcgrad task=multimnist granularity=whole_model,all_layer jacobian_dtype=bfloat16")
    assert [(c.method, c.axes["granularity"], c.axes["jacobian_dtype"]) for c in found] == [
        ("uniform", None, None),
        ("pcgrad", "whole_model", "bfloat16"),
        ("pcgrad", "all_layer", "bfloat16"),
    ]


def test_a_cell_that_is_asked_for_twice_is_trained_once() -> None:
    assert len(cells("method=gradvac,gradvac task=multimnist,multimnist/digits seed=0,0..0 method.beta=0.01,1e-2")) == 1


def test_identity_does_not_depend_on_order_paths_or_how_it_runs() -> None:
    plain = one("method=gradvac task=multimnist seed=1 method.beta=0.1")
    other = one(
        "seed=1 jobs=3 method.beta=1e-1 results=/elsewhere device=cuda data_root=/data time_limit=5 "
        "checkpoint_steps=7 task=multimnist/digits protocol=digits jacobian_dtype=float32 method=gradvac"
    )
    assert plain.id == other.id


def test_identity_is_the_same_in_another_process() -> None:
    words = ["method=gradvac", "task=multimnist", "method.beta=0.1", "protocol.epochs=2"]
    code = f"from mtlbench.cells.request import parse; print(parse({words!r}).cells[0].id)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == parse(words).cells[0].id


@pytest.mark.parametrize(
    "change", ["seed=1", "method.beta=0.02", "granularity=all_layer", "jacobian_dtype=bfloat16", "protocol.epochs=3"]
)
def test_identity_changes_with_anything_that_changes_the_result(change: str) -> None:
    assert one("method=gradvac task=multimnist").id != one(f"method=gradvac task=multimnist {change}").id


def test_identity_changes_when_the_content_of_the_protocol_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = one("method=gradvac task=multimnist").id
    data = task_data("multimnist")
    base = data.protocols["digits"]

    def with_protocol(**changes: object) -> str:
        protocols = {**data.protocols, "digits": base.model_copy(update=changes)}
        monkeypatch.setattr(
            "mtlbench.catalogue.variants.task_data", lambda _: data.model_copy(update={"protocols": protocols})
        )
        return one("method=gradvac task=multimnist").id

    assert with_protocol(batch_size=65) != before
    assert with_protocol(version=2) != before
    assert with_protocol(options={**base.options, "dropout": 0.21}) != before
    assert with_protocol(description="better explained") == before


def test_an_overridden_protocol_has_a_label_of_its_own() -> None:
    cell = one("method=uniform task=multimnist protocol.optimizer.lr=0.001 protocol.epochs=2")
    assert cell.protocol.label == "digits@1+epochs=2+optimizer.lr=0.001"
    assert cell.folder(Path("r")).parts[3] == "digits@1-modified"


def test_overriding_a_value_with_itself_changes_nothing() -> None:
    base = one("method=uniform task=multimnist")
    same = one(f"method=uniform task=multimnist protocol.epochs={base.protocol.epochs}")
    assert (same.id, same.protocol.label) == (base.id, base.protocol.label)


def test_labels_tell_apart_what_differs() -> None:
    found = cells("method=gradvac task=multimnist method.beta=0.01,0.1,0.1000000001 granularity=whole_model,all_layer")
    labels = [c.name for c in found]
    assert labels[0].startswith("gradvac on")
    assert len(set(labels)) == 6


def test_cells_are_ordered_by_task_seed_and_method() -> None:
    found = cells("method=uniform,gradvac task=multimnist seed=1,0")
    assert [(c.seed, c.method) for c in found] == [(1, "uniform"), (1, "gradvac"), (0, "uniform"), (0, "gradvac")]


def test_a_plug_in_task_with_protocols_as_data_has_variants_and_protocols(tiny: Path) -> None:
    assert one("method=uniform task=tiny").protocol.label == "short@1"
    assert one("method=uniform task=tiny/sampled protocol=long").protocol.epochs == 5
    assert "tiny" in registry.tasks.names()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- method", "map keys to values"),
        ("method: [uniform", "cannot be read"),
        ("metod: uniform", "Did you mean 'method'"),
        ("method: uniform\ntask: multimnist\nseed: []", "empty"),
        ("method: uniform\ntask: multimnist\nseed: 1.5", "whole number"),
        ("method: gradvac\ntask: multimnist\nmethod.beta: .nan", "beta"),
        ("method: uniform\ntask: multimnist\nprotocol.optimizer.lr: inf", "finite"),
        ("method: {gradvac: 1}\ntask: multimnist", "Which method?"),
        ("method: uniform\ntask: [[multimnist]]", "Unknown task"),
        ("", "map keys to values"),
    ],
)
def test_a_bad_yaml_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        from_file(tmp_path, text)


def test_a_missing_yaml_file_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        parse(["nowhere.yaml", "method=uniform"])


def test_a_yaml_file_after_the_words_is_refused() -> None:
    with pytest.raises(UsageError, match="not a key=value word"):
        parse(["method=uniform", "grid.yaml"])


def test_a_grid_beyond_reason_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 10000"):
        parse(["method=uniform", "task=multimnist", "seed=0..10000"])
    with pytest.raises(UsageError, match="20000 cells; the most is 10000"):
        parse(["method=uniform", "task=multimnist", "seed=0..9999", "protocol.epochs=1,2"])


def test_values_keep_equals_signs_and_spaces_around_commas_are_dropped() -> None:
    assert read_words(["results=a=b", "seed=1, 2"]) == {"results": ["a=b"], "seed": ["1", "2"]}


def test_a_constructor_that_refuses_a_value_is_a_usage_error(tiny: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "picky.py"
    plugin.write_text(
        "import mtlbench\n\n@mtlbench.register_method('picky')\nclass Picky(mtlbench.LossWeighting):\n"
        "    def __init__(self, rate: float = 1.0) -> None:\n        super().__init__()\n"
        "        if rate > 2:\n            raise ValueError('rate is at most 2')\n"
        "    def scalarize(self, losses):\n        return losses.sum()\n"
    )
    registry.load_plugin(plugin)
    with pytest.raises(UsageError, match="picky: rate is at most 2"):
        parse(["method=picky", "task=tiny", "method.rate=3"])


def _scored(epochs: int) -> str:
    """The name of a task whose own protocol has so many epochs."""
    protocol = {"version": 1, "description": "", "variants": ["all"], "epochs": epochs, "batch_size": 1}
    content = {
        "variants": {"all": {"description": "", "protocol": "short", "against": "gradvac"}},
        "protocols": {"short": {**protocol, "optimizer": {"name": "sgd", "lr": 0.1}}},
    }
    name = f"of_{epochs}_epochs"
    registry.tasks._entries.pop(name, None)
    registry.register_task(name, protocols=content)(type("Task", (building.task_class("multimnist"),), {}))
    return name


def test_where_nothing_is_trained_there_is_one_method_and_one_seed() -> None:
    name = _scored(0)
    assert [c.name for c in cells(f"method=uniform task={name}")] == [one(f"method=uniform task={name} seed=0").name]
    told = f"{name}/all trains nothing, so that all methods are the same: ask for method=uniform and no other."
    for methods in ("gradvac", "uniform,gradvac"):
        with pytest.raises(UsageError, match=re.escape(told)):
            cells(f"method={methods} task={name}")
    with pytest.raises(UsageError, match="trains nothing, so that all seeds are the same: ask for one seed, not 3"):
        cells(f"method=uniform task={name} seed=0..2")
    with pytest.raises(UsageError, match="trains nothing, so that there is nothing to tune: leave tune=4 out"):
        cells(f"method=uniform task={name} tune=4")
    assert len(cells(f"method=uniform,gradvac task={name} protocol.epochs=1 seed=0,1")) == 4


def test_the_untrained_model_of_another_task_can_be_scored_on_several_seeds() -> None:
    name = _scored(2)
    assert [(c.method, c.seed) for c in cells(f"method=uniform task={name} seed=0,1 protocol.epochs=0")] == [
        ("uniform", 0),
        ("uniform", 1),
    ]
    told = f"{name}/all with protocol.epochs=0 trains nothing, so that all methods are the same"
    with pytest.raises(UsageError, match=re.escape(told)):
        cells(f"method=gradvac task={name} protocol.epochs=0")
    with pytest.raises(UsageError, match=r"protocol.epochs=-1 is not allowed"):
        cells(f"method=uniform task={name} protocol.epochs=-1")
