"""The cost of combining K gradients: Gramian, weights and combination, against reading the Jacobian twice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter

from mtlbench.bench import memory, peers
from mtlbench.bench.result import Bench, Environment, Progress, Row, Spread, medians
from mtlbench.bench.sampling import Sampler
from mtlbench.catalogue import building
from mtlbench.engine.grouping import GRANULARITIES, group
from mtlbench.engine.jacobian import Jacobian
from mtlbench.engine.kinds import GramianWeighting
from mtlbench.errors import UsageError, unknown

LAYOUTS: tuple[str, ...] = ("flat", *GRANULARITIES)
"""One vector of P parameters, or the parameter list of a Transformer at one of the granularities."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

_ENCODER_LAYERS, _DECODER_LAYERS = 6, 4
_LATENT, _NOISE = 4, 0.5


def combination(
    objectives: Sequence[int] = (2, 8),
    parameters: Sequence[int] = (1_000_000,),
    methods: Sequence[str] = ("gradvac", "pcgrad", "mgda"),
    layouts: Sequence[str] = ("flat",),
    device: str = "cpu",
    dtype: str = "float32",
    repeats: int = 11,
    sample_seconds: float = 0.05,
    measure_memory: bool = True,
    compare: bool = True,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
) -> Bench:
    """Time Gramian, weights and combination for every K, P, layout and method.

    The rows of the Jacobian mix four latent directions with noise, so that about half of the pairs conflict.
    All layouts of one K and P are held at once, K x P entries each, and all subjects take turns.

    Rows have, with times in seconds and memory in bytes:

    - labels `P`, `K`, `layout`, `groups`, `method`;
    - ratios `whole/floor` (the whole combination over two plain reads of the Jacobian), `torchjd/whole`
      (TorchJD's aggregator over ours on the same matrix; one-group layouts only), `whole/whole_model` (this
      layout over `whole_model`, if that is among the layouts);
    - seconds `floor`, `gramian`, `weights` (the method alone, on the Gramian), `combine`, `whole`, `torchjd`;
    - bytes `extra` (peak beyond the Jacobian buffer, the update included), and bytes ratio `extra/P floats`.

    Args:
        objectives: the numbers K of rows.
        parameters: the numbers P of columns; approximate for the Transformer's layouts.
        methods: registry names of methods that answer weights for a Gramian.
        layouts: of `LAYOUTS`.
        device: a torch device.
        dtype: of the Jacobian buffer, of `DTYPES`.
        repeats: samples of each subject.
        sample_seconds: a sample repeats its call until it lasts about this long.
        measure_memory: also measure memory, in a process of its own for each row (seconds each).
        compare: also time TorchJD, if it is installed.
        plugins: files that the memory processes must load to know the methods.
        progress: told of every sample.

    Raises:
        UsageError: an unknown method, layout or dtype, a method without a Gramian, or a number below 1.
    """
    arguments = {key: value for key, value in locals().items() if key != "progress"}
    _check(objectives, parameters, methods, layouts, dtype, repeats)
    where = torch.device(device)
    synchronize = partial(torch.cuda.synchronize, where) if where.type == "cuda" else lambda: None
    sampler = Sampler(synchronize, sample_seconds)
    peer = peers.version() if compare else None
    environment = Environment.here(where, peer)
    rows: list[Row] = []
    advance = _Advance(progress, len(parameters) * len(objectives))
    for p, k in product(parameters, objectives):
        cells = [_Cell(k, p, layout, methods, device, dtype, peer is not None) for layout in layouts]
        subjects = {f"{cell.layout} {name}": call for cell in cells for name, call in cell.subjects().items()}
        advance.samples = repeats * len(subjects) + measure_memory * len(cells) * len(methods)
        samples = sampler.interleave(subjects, repeats, partial(advance, p, k))
        found = [row for cell in cells for row in cell.rows(samples)]
        del cells, subjects  # before other processes need the memory
        for row in found:
            if measure_memory:
                row = _with_memory(row, device, dtype, p, plugins)
                advance(p, k, f"{row.labels['layout']} {row.labels['method']} memory")
            rows.append(row)
    return Bench(
        kind="combination",
        settings=arguments,
        environment=environment,
        disturbed=sampler.disturbed_share,
        rows=rows,
    )


def transformer(parameters: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an encoder-decoder Transformer of 201 tensors and about `parameters` entries."""
    width = 1
    while _size(_layers(width + 1)) <= 0.8 * parameters:
        width += 1
    width -= width % 8 if width > 8 else 0
    layers = _layers(width)
    vocabulary = max(1, round((parameters - _size(layers)) / width))
    return {"encoder.embedding.weight": (vocabulary, width), **layers}


def filled(objectives: int, parameters: int, layout: str, device: str, dtype: str) -> Jacobian:
    """A Jacobian of made-up parameters, its rows four latent directions and noise."""
    wide = torch.float64 if dtype == "float64" else torch.float32
    shapes = {"flat": (parameters,)} if layout == "flat" else transformer(parameters)
    named = {name: Parameter(torch.empty(shape, device=device, dtype=wide)) for name, shape in shapes.items()}
    groups = group(named, "whole_model" if layout == "flat" else layout)
    jacobian = Jacobian(list(groups.values()), DTYPES[dtype])
    generator = torch.Generator(device).manual_seed(0)
    draw = partial(torch.randn, generator=generator, device=device, dtype=wide)
    sizes = [p.numel() for p in jacobian.parameters]
    latent, mix = draw(_LATENT, sum(sizes)), draw(objectives, _LATENT)
    for row in reversed(range(objectives)):  # the last row first, so that the buffer is allocated once
        gradient = (mix[row] @ latent).add_(draw(sum(sizes)), alpha=_NOISE)
        parts = zip(gradient.split(sizes), jacobian.parameters, strict=True)
        jacobian.set_row(row, [part.view(p.shape) for part, p in parts])
    return jacobian


def prepared(objectives: int, parameters: int, layout: str, method: str, device: str, dtype: str) -> memory.Action:
    """The whole combination, to measure its memory; a small one has run, so that libraries are loaded."""
    for size in (min(parameters, 1000), parameters):
        jacobian = filled(objectives, size, layout, device, dtype)
        whole = partial(_combine_with, _method(method), jacobian, objectives, torch.ones(objectives))
        if size != parameters:
            whole()
    return memory.Action(whole, held=jacobian.width * jacobian.parameters[0].element_size())  # the update


class _Advance:
    """Counts finished samples; all K and P have equally many."""

    def __init__(self, progress: Progress | None, cells: int) -> None:
        self._progress, self._cells, self._done = progress, cells, 0
        self.samples = 0

    def __call__(self, p: int, k: int, subject: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._cells * self.samples, f"P={p} K={k} {subject}")


class _Cell:
    """One Jacobian and what is timed on it."""

    def __init__(
        self, k: int, p: int, layout: str, methods: Sequence[str], device: str, dtype: str, compare: bool
    ) -> None:
        self.layout = layout
        self._k, self._methods = k, methods
        self._jacobian = filled(k, p, layout, device, dtype)
        self._width = sum(parameter.numel() for parameter in self._jacobian.parameters)
        storage = self._jacobian.columns(k)[0].untyped_storage()
        self._matrix = torch.empty(0, dtype=DTYPES[dtype], device=device).set_(storage).view(k, -1)
        single = self._jacobian.groups == 1
        self._peers = {m: peers.aggregator(m) for m in methods} if compare and single else {}

    def subjects(self) -> dict[str, Callable[[], object]]:
        """What is timed: `floor`, `gramian`, `combine`, and `weights`, `whole`, `torchjd` of each method."""
        k, jacobian = self._k, self._jacobian
        losses = torch.ones(k)
        gramian = jacobian.gramian(k)
        weights = torch.ones(jacobian.groups, k, dtype=torch.float64, device=gramian.device)
        found: dict[str, Callable[[], object]] = {
            "floor": partial(_read_twice, self._matrix, _fastest_read(self._matrix)),
            "gramian": partial(jacobian.gramian, k),
            "combine": partial(_combine, jacobian, weights),
        }
        for name in self._methods:
            found[f"{name} weights"] = partial(_method(name).weights, gramian, losses)
            found[f"{name} whole"] = partial(_combine_with, _method(name), jacobian, k, losses)
            if self._peers.get(name) is not None:
                found[f"{name} torchjd"] = partial(self._peers[name], self._matrix)
        return found

    def rows(self, samples: Mapping[str, Sequence[float]]) -> list[Row]:
        """One row for each method, from the samples of all layouts."""
        rows = []
        for name in self._methods:
            names = {
                "floor": "floor",
                "gramian": "gramian",
                "weights": f"{name} weights",
                "combine": "combine",
            }
            names |= {"whole": f"{name} whole", "torchjd": f"{name} torchjd"}
            own = {
                short: list(samples[f"{self.layout} {long}"])
                for short, long in names.items()
                if f"{self.layout} {long}" in samples
            }
            if f"whole_model {name} whole" in samples:
                own["whole_model"] = list(samples[f"whole_model {name} whole"])
            rows.append(
                Row(
                    labels={
                        "P": self._width,
                        "K": self._k,
                        "layout": self.layout,
                        "groups": self._jacobian.groups,
                        "method": name,
                    },
                    ratios={
                        "whole/floor": Spread.of(own, "whole", "floor"),
                        "torchjd/whole": Spread.of(own, "torchjd", "whole"),
                        "whole/whole_model": Spread.of(own, "whole", "whole_model"),
                    },
                    seconds=medians(own, names),
                    samples=own,
                )
            )
        return rows


def _read_twice(matrix: Tensor, read: Callable[[Tensor], object]) -> None:
    read(matrix)
    read(matrix)


def _fastest_read(matrix: Tensor) -> Callable[[Tensor], object]:
    """The fastest of some reductions to one number, on this device and dtype."""
    flat = matrix.view(-1)
    candidates: list[Callable[[Tensor], object]] = [
        torch.sum,
        torch.amax,
        lambda m: torch.dot(m.view(-1), m.view(-1)),
    ]

    def seconds(read: Callable[[Tensor], object]) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            float(cast("Tensor", read(flat)))  # waits for the device
            times.append(time.perf_counter() - started)
        return min(times)

    return min(candidates, key=seconds)


def _combine(jacobian: Jacobian, weights: Tensor) -> None:
    for parameter in jacobian.parameters:
        parameter.grad = None
    jacobian.combine(weights)


def _combine_with(method: GramianWeighting, jacobian: Jacobian, objectives: int, losses: Tensor) -> None:
    _combine(jacobian, method.weights(jacobian.gramian(objectives), losses))


def _with_memory(row: Row, device: str, dtype: str, parameters: int, plugins: Sequence[str]) -> Row:
    settings: dict[str, Any] = {
        "objectives": row.labels["K"],
        "parameters": parameters,
        "layout": row.labels["layout"],
        "method": row.labels["method"],
        "device": device,
        "dtype": dtype,
    }
    try:
        extra = memory.peak("mtlbench.bench.combining:prepared", settings, device, plugins)
    except RuntimeError as error:
        return row.model_copy(update={"note": str(error)})
    floats = 4 * int(row.labels["P"])
    return row.model_copy(update={"bytes": {"extra": extra}, "bytes_ratios": {"extra/P floats": extra / floats}})


def _method(name: str) -> GramianWeighting:
    method = building.method(name)
    if not isinstance(method, GramianWeighting):
        raise UsageError(
            f"{name} answers no weights for a Gramian, so there is no combination to time: time whole steps."
        )
    return method


def _check(
    objectives: Sequence[int],
    parameters: Sequence[int],
    methods: Sequence[str],
    layouts: Sequence[str],
    dtype: str,
    repeats: int,
) -> None:
    for layout in layouts:
        if layout not in LAYOUTS:
            raise unknown("layout", layout, LAYOUTS)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if min((*objectives, *parameters, repeats), default=0) < 1 or not (
        objectives and parameters and methods and layouts
    ):
        raise UsageError("a benchmark needs at least one K, P, method and layout, each number at least 1.")
    for name in methods:
        _method(name)


def _layers(width: int) -> dict[str, tuple[int, ...]]:
    """Shapes by name: 16 tensors for each encoder layer, 26 for each decoder layer."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    sides = (
        ("encoder", _ENCODER_LAYERS, ("attention",)),
        ("decoder", _DECODER_LAYERS, ("attention", "cross_attention")),
    )
    for side, layers, attentions in sides:
        for index in range(layers):
            layer = f"{side}.layers.{index}"
            for attention in attentions:
                for projection in ("query", "key", "value", "output"):
                    linear(f"{layer}.{attention}.{projection}", width, width)
                shapes[f"{layer}.{attention}_norm.weight"] = shapes[f"{layer}.{attention}_norm.bias"] = (width,)
            linear(f"{layer}.expand", width, 4 * width)
            linear(f"{layer}.contract", 4 * width, width)
            shapes[f"{layer}.norm.weight"] = shapes[f"{layer}.norm.bias"] = (width,)
    return shapes


def _size(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())
