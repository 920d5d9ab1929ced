"""Whether a bundle is of one piece and a machine can hold it, and what a machine says of its own state."""

from __future__ import annotations

from typing import List, Optional

from obert_edge.bundle.container import CASES, WEIGHTS, Bundle
from obert_edge.bundle.manifest import TOKENS_OUTPUT
from obert_edge.bundle.program import Linear, Program, WeightFormat
from obert_edge.device.runtime import machine
from obert_edge.device.text_table import megabytes
from obert_edge.errors import BundleError, UnsupportedDeviceError

#: Bits of a Raspberry Pi's throttling word that say what limits it now. Bits 16 places higher say the same of
#: any time since the board was started.
_THROTTLING = (
    (0, "under-voltage"),
    (1, "clock capped"),
    (2, "throttled"),
    (3, "soft temperature limit"),
)


def needed_memory(bundle: Bundle) -> int:
    """About how many bytes a bundle needs to run its longest sequence.

    It needs the weights, and the embedded cases to verify it; those of sparse linears once more in the layout
    that kernels read, at most 1.4 times what they take in the bundle; and the activations of the longest
    sequence: hidden state, Q, K, V, context and intermediate, at worst 4 bytes each (float32).
    """
    model = bundle.manifest.model
    channels = 5 * model.hidden + model.intermediate
    ops = [op for op in bundle.program.ops if isinstance(op, Linear)]
    # Layers that share weights have them once.
    distinct = {op.weights: linear for op, linear in zip(ops, bundle.manifest.linears)}
    sparse = sum(one.bytes for one in distinct.values() if one.format != WeightFormat.DENSE_4.name)
    activations = 4 * channels * model.max_length
    return len(bundle.member(WEIGHTS)) + len(bundle.member(CASES)) + int(1.4 * sparse) + activations


def free_memory() -> Optional[int]:
    """Bytes this process may still take: what the system has, or less where a container is limited."""
    known = [value for value in (machine.available_memory(), machine.memory_limit()) if value is not None]
    return min(known, default=None)


def require_memory(bundle: Bundle) -> None:
    """Refuse a bundle this machine has no memory for: a refusal says why, and a killed process does not.

    Raises:
        UnsupportedDeviceError: it needs more than there is.
    """
    need, free = needed_memory(bundle), free_memory()
    if free is None:
        return
    free += len(bundle.member(WEIGHTS)) + len(bundle.member(CASES))  # an open bundle has taken these already
    if need > free:
        raise UnsupportedDeviceError(
            f"{bundle.path} needs about {megabytes(need)} of memory; {megabytes(free)} are available",
            hint="end other programs, prune further, or build with a smaller --max-length",
        )


def check_outputs(bundle: Bundle, program: Program) -> None:
    """Refuse a manifest that says other things of the outputs than the program.

    Raises:
        BundleError: they differ in number, domain or channels, or what is pooled is no output.
    """
    listed = [(facts.domain, facts.channels) for facts in bundle.manifest.outputs]
    made = [(program.buffers[op.input].domain.name.lower(), op.channels) for op in program.outputs]
    modules = bundle.manifest.task.modules
    if modules and modules[0].type == "pooling" and bundle.manifest.output(TOKENS_OUTPUT) is None:
        raise BundleError(
            f"the manifest of {bundle.path} pools {TOKENS_OUTPUT}, which is none of its outputs",
            hint="rebuild the bundle with `obert-edge build`",
        )
    if listed != made or not made:
        raise BundleError(
            f"the manifest of {bundle.path} lists outputs of {listed}; its compiled graph makes {made}",
            hint="rebuild the bundle with `obert-edge build`",
        )


def throttling(word: str) -> List[str]:
    """What a Raspberry Pi's throttling word (``0x50005``) says, most pressing first."""
    bits = int(word, 16)
    found = [f"{what} now" for bit, what in _THROTTLING if bits >> bit & 1]
    return found + [f"{what} since the start" for bit, what in _THROTTLING if bits >> (bit + 16) & 1]
