"""Programs for the people who develop and measure obert-edge; `tools/README.md` lists them.

Every program is a module and is run from the repository root: `python -m tools.bench.kernels --help`. The
folders are regular packages, because a namespace package would lose to any installed distribution that is
called `tools`.
"""
