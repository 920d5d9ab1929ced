"""``python -m obert_edge``: the ``obert-edge`` command."""

from __future__ import annotations

from obert_edge.cli import main

if __name__ == "__main__":
    main()
