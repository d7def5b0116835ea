"""`python -m mtlbench` is the command `mtlbench`."""

from __future__ import annotations

from mtlbench.cli.main import main

if __name__ == "__main__":
    main()
