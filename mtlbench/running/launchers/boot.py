"""Starts a worker of the very package that this file belongs to, wherever that was imported from.

The launcher runs it as a file, so that what lies in the working directory is never imported, and with `-P`, so that the
modules of this folder are not either. With words it starts another module of `running`: `launchers.agent WORD...`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path


def load_package() -> None:
    """Import `mtlbench` from where this file lies."""
    spec = importlib.util.spec_from_file_location("mtlbench", Path(__file__).parents[2] / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["mtlbench"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load_package()
    if len(sys.argv) > 1:
        sys.exit(importlib.import_module(f"mtlbench.running.{sys.argv[1]}").main(sys.argv[2:]))
    from mtlbench.running.worker import main

    main()
