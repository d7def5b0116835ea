"""Records made by hand, for the tests of everything that is downstream of a record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mtlbench.cells.cell import Cell, identity
from mtlbench.cells.request import parse
from mtlbench.record.schema import (
    FAILURE,
    RECORD,
    CellInfo,
    Cost,
    Evaluation,
    MetricInfo,
    ObjectiveInfo,
    Provenance,
    Record,
)

ACCURACY = MetricInfo(name="accuracy", higher_is_better=True, unit="%")
ERROR = MetricInfo(name="error", higher_is_better=False, unit="")


def record(
    method: str = "uniform",
    seed: int = 0,
    curves: list[tuple[dict[str, float], dict[str, float]]] | None = None,
    metric: MetricInfo = ACCURACY,
    separate: bool = False,
    seconds: float = 0.01,
    host: str = "one",
    words: str = "",
    protocol: dict[str, Any] | None = None,
    cell: Cell | None = None,
    task: str = "multimnist",
    **changes: Any,
) -> Record:
    """A finished record by hand; `curves` holds, by epoch, validation and test scores of each objective."""
    if cell is None:
        (cell,) = parse([f"method={method}", f"task={task}", f"seed={seed}", *words.split()]).cells
    content = cell.canonical()
    content["protocol"].update(protocol or {})
    curves = curves or [({"left": 1.0, "right": 2.0}, {"left": 3.0, "right": 4.0})]

    def by_metric(scores: dict[str, float]) -> dict[str, dict[str, float]]:
        return {name: {metric.name: value} for name, value in scores.items()}

    return Record(
        **{
            "id": identity(content),
            "status": "finished",
            "cell": CellInfo(**content),
            "separate_models": separate,
            "objectives": tuple(ObjectiveInfo(name=name, metrics=(metric,)) for name in curves[0][0]),
            "evaluations": tuple(
                Evaluation(epoch=e, step=e, losses={}, scores={"val": by_metric(val), "test": by_metric(test)})
                for e, (val, test) in enumerate(curves, 1)
            ),
            "cost": Cost(
                steps=1,
                seconds_per_step=seconds,
                seconds_training=1,
                seconds_evaluation=1,
                peak_memory_bytes=1,
                memory="process",
            ),
            "provenance": Provenance(
                started="",
                finished="",
                resumed=0,
                packages={"torch": "2"},
                commit="c" * 40,
                dirty=False,
                method_digest="",
                data_digest="d",
                host=host,
                hardware=f"cpu of {host}",
                device="cpu",
                threads=1,
            ),
            **changes,
        }
    )


BLEU = MetricInfo(name="bleu", higher_is_better=True, unit="", signature="nrefs:1|tok:13a|version:2.6.0")


def multilingual(
    method: str = "uniform",
    seed: int = 0,
    gain: float = 0.0,
    languages: int = 20,
    lacking: int = 6,
    extra_epochs: Iterable[int] = (1, 2),
    **changes: Any,
) -> Record:
    """A record of many objectives in two groups, scored on the extra split `news` too, after some of two epochs.

    Language k has 10 k + gain + epoch + seed / 10 on `test`, 1 less on `val`, half of it on `news`, which lacks the
    first `lacking` ones.
    """
    names = [f"l{k}" for k in range(languages)]

    def scores(epoch: int, factor: float = 1.0, less: float = 0.0, first: int = 0) -> dict[str, dict[str, float]]:
        found = {name: 10.0 * k + gain + epoch + seed / 10 - less for k, name in enumerate(names)}
        return {name: {"bleu": factor * value} for name, value in [*found.items()][first:]}

    evaluations = []
    for epoch in (1, 2):
        by_split = {"val": scores(epoch, less=1.0), "test": scores(epoch)}
        if epoch in extra_epochs:
            by_split["news"] = scores(epoch, factor=0.5, first=lacking)
        evaluations.append(Evaluation(epoch=epoch, step=epoch, losses={}, scores=by_split))
    characters = BLEU.model_copy(update={"signature": "nrefs:1|tok:char|version:2.6.0"})
    return record(
        method,
        seed,
        **{
            "objectives": tuple(
                ObjectiveInfo(name=name, metrics=(characters if k < 2 else BLEU,)) for k, name in enumerate(names)
            ),
            "groups": {"low": tuple(names[: languages // 4]), "high": tuple(names[languages // 4 :])},
            "facts": {"parameters": 1234, "verses": {"dropped": 5, "share": 0.25}, "subwords": "abc"},
            "evaluations": tuple(evaluations),
            **changes,
        },
    )


def failed(method: str, seed: int, reason: str, words: str = "") -> Record:
    """A cell that diverged."""
    (cell,) = parse([f"method={method}", "task=multimnist", f"seed={seed}", *words.split()]).cells
    return Record(id=cell.id, status="diverged", reason=reason, cell=CellInfo(**cell.canonical()))


def constant(method: str, scores: Sequence[tuple[float, float]], **changes: Any) -> list[Record]:
    """Records with seeds 0, 1, ... that have these scores of left and right at their one evaluation."""
    curves = [[({"left": x, "right": y}, {"left": x, "right": y})] for x, y in scores]
    return [record(method, seed, curve, **changes) for seed, curve in enumerate(curves)]


def save(records: Iterable[Record], results: Path) -> list[Path]:
    """Write records where the runner would; their files."""
    paths = []
    for made in records:
        c = made.cell
        folder = results / c.task / c.variant / c.protocol_folder / c.method / f"seed{c.seed}-{made.id}"
        folder.mkdir(parents=True)
        made.save(folder)
        paths.append(folder / (RECORD if made.status == "finished" else FAILURE))
    return paths
