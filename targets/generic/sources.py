"""What every target's library is made of: the engine and the scalar kernels (stdlib only, read by build.py).

Paths are relative to the folder above: ``engine/...`` is ``obert_edge/engine``, the rest is in ``targets/``.
"""

from __future__ import annotations

from typing import Tuple

#: (path, extra compiler flags)
COMMON_SOURCES: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ("engine/api.cpp", ()),
    ("engine/capsule.cpp", ()),
    ("engine/cpu_features.cpp", ()),
    ("engine/dataflow.cpp", ()),
    ("engine/executor.cpp", ()),
    ("engine/executor_args.cpp", ()),
    ("engine/executor_tasks.cpp", ()),
    ("engine/prepacked.cpp", ()),
    ("engine/implementations.cpp", ()),
    ("engine/linear_traits.cpp", ()),
    ("engine/litert/delegate.cpp", ()),
    ("engine/litert/kernel.cpp", ()),
    ("engine/memory.cpp", ()),
    ("engine/padded.cpp", ()),
    ("engine/pairing.cpp", ()),
    ("engine/program.cpp", ()),
    ("engine/schedule.cpp", ()),
    ("engine/status.cpp", ()),
    ("engine/thread_pool.cpp", ()),
    ("engine/validate.cpp", ()),
    ("generic/attention.cpp", ()),
    ("generic/embed.cpp", ()),
    ("generic/layer_norm.cpp", ()),
    ("generic/linear.cpp", ()),
    ("generic/pool.cpp", ()),
    ("generic/quantize.cpp", ()),
    ("generic/scalar.cpp", ()),
)
