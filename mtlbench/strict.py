"""Data with exactly the declared keys."""

from __future__ import annotations

import pydantic


class Strict(pydantic.BaseModel):
    """Data with exactly the declared keys."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
