"""The YAML of a task: odd content of any of its files is one clear error, and no name can leave its folder."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mtlbench
from mtlbench.catalogue import data, registry
from mtlbench.catalogue.variants import task_data
from mtlbench.errors import UsageError

PROTOCOLS = """
variants:
  small: {description: a few numbers, protocol: cpu, needs: [numbers]}
protocols:
  cpu:
    version: 1
    description: Quick.
    variants: [small]
    epochs: 1
    batch_size: 8
    optimizer: {name: adam, lr: 0.01}
"""
DATASETS = """
numbers:
  title: Numbers
  source: https://example.org
  licence: CC0
  folders: [numbers]
  mirrors: [https://example.org/numbers/]
  files:
    a.txt: {sha256: SHA, size: 5}
""".replace("SHA", "a" * 64)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A task of a plug-in, with what is written into its two files."""
    monkeypatch.setattr(registry.tasks, "_entries", dict(registry.tasks.entries()))
    monkeypatch.setattr(registry, "_loaded_plugins", set())
    (tmp_path / "odd.py").write_text(
        textwrap.dedent("""
            import mtlbench

            @mtlbench.register_task("odd")
            class Odd(mtlbench.Task):
                pass
        """)
    )
    registry.load_plugin(tmp_path / "odd.py")

    def write(protocols: str = PROTOCOLS, datasets: str = DATASETS) -> None:
        (tmp_path / "protocols.yaml").write_text(protocols, encoding="utf-8")
        (tmp_path / "datasets.yaml").write_text(datasets, encoding="utf-8")

    yield write
    task_data.cache_clear()
    data.datasets.cache_clear()


def test_what_is_written_is_read(written: Callable[..., None]) -> None:
    written()
    assert task_data("odd").variants["small"].needs == ("numbers",)
    (numbers,) = data.needed("odd", "small")
    assert (numbers.name, numbers.files[0].urls) == ("numbers", ("https://example.org/numbers/a.txt",))


VARIANT = "  small: {description: a few numbers, protocol: cpu, needs: [numbers]}"
ODD_PROTOCOLS = {
    "nothing": ("", "valid dictionary"),
    "a list": ("[1, 2]", "valid dictionary"),
    "a word": ("variants", "valid dictionary"),
    "no variant": (PROTOCOLS.replace(VARIANT, "  {}"), "variants: dictionary should have at least 1 item"),
    "no protocols": ("variants: {a: {description: a, protocol: cpu}}", "protocols: field required"),
    "protocols as a list": (PROTOCOLS.split("protocols:")[0] + "protocols: [cpu]", "protocols: input should be"),
    "a protocol without content": (PROTOCOLS.split("  cpu:")[0] + "  cpu:", "protocols.cpu: input should be"),
    "a variant twice": (PROTOCOLS.replace(VARIANT, f"{VARIANT}\n{VARIANT}"), "'small' stands twice in line 4"),
    "a variant elsewhere": (PROTOCOLS.replace("small:", "../../away:"), "variants.../../away.*: string should match"),
    "an absolute variant": (PROTOCOLS.replace("small:", "/etc:"), "string should match"),
    "a hidden variant": (PROTOCOLS.replace("small:", ".small:"), "string should match"),
    "a long variant": (PROTOCOLS.replace("small:", "s" * 300 + ":"), "at most 60 characters"),
    "a protocol elsewhere": (PROTOCOLS.replace("cpu", "../cpu"), "string should match"),
    "a number as a name": (PROTOCOLS.replace("small:", "1:"), "variants.1.*: input should be a valid string"),
    "needs as a word": (PROTOCOLS.replace("[numbers]", "numbers"), "variants.small.needs: input should be a valid"),
    "an unknown protocol": (PROTOCOLS.replace("protocol: cpu", "protocol: gpu"), "names the unknown protocol 'gpu'"),
    "a date": (
        PROTOCOLS.replace("epochs: 1", "epochs: 2020-01-01"),
        "cpu.epochs: input should be a valid integer",
    ),
    "digits": (PROTOCOLS.replace("epochs: 1", "epochs: " + "1" * 5000), "thousands of digits"),
    "a large version": (PROTOCOLS.replace("version: 1", "version: " + "1" * 4000), "less than or equal to"),
    "an infinite rate": (PROTOCOLS.replace("0.01", ".inf"), "protocols.cpu.optimizer.lr: input should be a finite"),
    "brackets": ("[" * 3000, "nested too deeply"),
}


@pytest.mark.parametrize("case", ODD_PROTOCOLS)
def test_odd_protocols_are_one_clear_error(written: Callable[..., None], case: str) -> None:
    content, reason = ODD_PROTOCOLS[case]
    written(protocols=content)
    with pytest.raises(UsageError, match=rf"protocols\.yaml.*{reason}") as caught:
        task_data("odd")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


FILE = "    a.txt: {sha256: " + "a" * 64 + ", size: 5}"
ODD_DATASETS = {
    "nothing": ("", "valid dictionary"),
    "a list": ("[1]", "valid dictionary"),
    "a word for a set": ("numbers: a", "numbers: input should be"),
    "mirrors as a word": (DATASETS.replace("[https://example.org/numbers/]", "https://a/"), "mirrors must be a list"),
    "files as a word": (DATASETS.split("  files:")[0] + "  files: a.txt", "numbers.files: input should be a valid"),
    "a file as a word": (DATASETS.replace(FILE, "    a.txt: hello"), "a.txt of files must map keys"),
    "a file elsewhere": (DATASETS.replace("a.txt", "../a.txt"), r"'\.\./a.txt' must be a path below the data set's"),
    "a folder elsewhere": (DATASETS.replace("[numbers]", "[a/../../b]"), "'a/../../b' must be a path below the data"),
    "an absolute folder": (DATASETS.replace("[numbers]", "[/etc]"), "'/etc' must be a path below the data root"),
    "a folder of a home": (DATASETS.replace("[numbers]", "['~']"), "'~' must be a path below the data root"),
    "an escape": (DATASETS.replace("[numbers]", r'["a\e[31m"]'), "must be a path below the data root"),
    "no folder": (DATASETS.replace("[numbers]", "[]"), "at least 1 item"),
    "a set twice": (DATASETS + DATASETS, "'numbers' stands twice"),
    "digits": (DATASETS.replace("size: 5", "size: " + "5" * 5000), "thousands of digits"),
}


@pytest.mark.parametrize("case", ODD_DATASETS)
def test_odd_data_sets_are_one_clear_error(written: Callable[..., None], case: str) -> None:
    content, reason = ODD_DATASETS[case]
    written(datasets=content)
    with pytest.raises(UsageError, match=rf"datasets\.yaml.*{reason}") as caught:
        data.datasets("odd")
    assert "\n" not in str(caught.value)


def test_a_task_that_states_its_protocols_as_data_is_named_by_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.tasks, "_entries", dict(registry.tasks.entries()))
    stated: dict[str, Any] = {"variants": {}, "protocols": {}}

    @mtlbench.register_task("stated", protocols=stated)
    class Stated(mtlbench.Task):
        pass

    with pytest.raises(UsageError, match=r"of task 'stated' \(.*test_variants\.py\) cannot be read: variants"):
        task_data("stated")
