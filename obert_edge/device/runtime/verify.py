"""Checking a bundle: its hashes, and that its embedded cases come out bit for bit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from obert_edge.bundle.cases import Case
from obert_edge.bundle.container import ENGINE, PROGRAM, Bundle
from obert_edge.bundle.signature import Key
from obert_edge.device.progress import Progress, silent
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.batching import case_positions
from obert_edge.device.runtime.board import default_cache_bytes, default_threads, find_board
from obert_edge.device.runtime.library import check_library_architecture, find_library
from obert_edge.device.runtime.native import Library, NativeModel, PackedBatch
from obert_edge.errors import UnsupportedDeviceError, VerificationError


@dataclass(frozen=True)
class Check:
    """The embedded cases on one implementation with one number of threads.

    Args:
        implementation: name of the kernels.
        threads: threads they ran on.
        batches: how many batches ran: each case as it is, and each of its sequences alone.
        failures: what came out differently, one sentence each; empty when all is well.
    """

    implementation: str
    threads: int
    batches: int
    failures: List[str]


@dataclass(frozen=True)
class Verification:
    """The result of :func:`verify`.

    Args:
        path: the bundle.
        members: how many members had their hashes checked.
        cases: how many test cases the bundle embeds.
        checks: the cases on each implementation and number of threads.
        compared: how many arrays each of the checks compared.
        signed_by: the key that the bundle names as its signer; empty: it is not signed.
        trusted: whether its signature was checked, and is by a key that was given as trusted.
        not_run: why the cases were not run here: the bundle is for another CPU; empty: they were.
        to_run_here: what would help against that.
    """

    path: str
    members: int
    cases: int
    checks: List[Check]
    compared: int
    signed_by: str = ""
    trusted: bool = False
    not_run: str = ""
    to_run_here: str = ""

    @property
    def ok(self) -> bool:
        """Whether every case came out as embedded, everywhere, and there was something to compare."""
        return not (self.is_empty or self.not_run) and not any(check.failures for check in self.checks)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compare: the bundle has no cases, or no outputs."""
        return not self.compared

    @property
    def unsupported(self) -> Optional[UnsupportedDeviceError]:
        """The error that the cases cannot be run here, with what was checked; ``None``: they were run."""
        if not self.not_run:
            return None
        right = "hashes and signature are right" if self.trusted else "all hashes are right"
        return UnsupportedDeviceError(
            f"{right}, but the {self.cases} embedded cases were not run: {self.not_run}",
            hint=f"run `python3 {Path(self.path).name} verify` on the device; for this machine, "
            f"{self.to_run_here}",
        )

    def require(self) -> None:
        """Raise an error unless :attr:`ok`.

        Raises:
            VerificationError: with the first difference.
            UnsupportedDeviceError: the cases were not run, because they are for another CPU.
        """
        if self.unsupported is not None:
            raise self.unsupported
        if self.is_empty:
            raise VerificationError(
                f"{self.path} embeds nothing to compare: {self.cases} cases",
                hint="rebuild the bundle with `obert-edge build`",
            )
        for check in self.checks:
            if check.failures:
                raise VerificationError(
                    f"{check.implementation} with {check.threads} threads gives other results than the "
                    f"bundle holds: {check.failures[0]}",
                    hint="run `obert-edge doctor`, and report the line above with this machine's CPU",
                )

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "ok": self.ok}

    def to_text(self) -> str:
        """Lines for people."""
        lines = [f"{self.path}: {self.members} members have the hashes the manifest gives", self._signer]
        for check in self.checks:
            verdict = "; ".join(check.failures[:3]) if check.failures else "the same bits"
            lines.append(
                f"{check.implementation}, {check.threads} thread{'s' * (check.threads != 1)}: "
                f"{self.cases} cases in {check.batches} batches: {verdict}"
            )
        if self.unsupported is not None:
            return "\n".join([*lines, str(self.unsupported)])
        if self.is_empty:
            lines.append("the bundle embeds no results to compare with: rebuild it with `obert-edge build`")
        lines.append("verified" if self.ok else "FAILED")
        return "\n".join(lines)

    @property
    def _signer(self) -> str:
        if not self.signed_by:
            return "not signed: whoever can change the file can change its hashes"
        return (
            f"signed by {self.signed_by}, which is trusted"
            if self.trusted
            else f"says it is signed by {self.signed_by[:80]!r}; no key was given to check that with"
        )


def verify(
    path: Union[str, Path],
    implementation: Optional[str] = None,
    threads: Optional[int] = None,
    progress: Optional[Progress] = None,
    trusted_keys: Optional[Sequence[Key]] = None,
) -> Verification:
    """Check a bundle on this machine.

    Every implementation of the kernels that this CPU runs must give the embedded outputs exactly, on one
    thread and on all, each case as a batch and each of its sequences alone. Hashes and signature are checked
    first; where the bundle is for another CPU, the result is about them alone, and says so in ``not_run``.

    Args:
        path: the ``.oeb`` file.
        implementation: check only this one.
        threads: the larger number of threads; ``None``: as many as a session would start.
        progress: told about each step.
        trusted_keys: public keys, one of which must have signed it; see :func:`load`. ``None``: whether it is
            signed does not count.

    Returns:
        What was checked and what differed; see :meth:`Verification.require`.

    Raises:
        BundleError: not a bundle, truncated, or a member does not have its hash.
        UnsupportedDeviceError: no engine library can be loaded, or the implementation cannot run here.
        VerificationError: none of the trusted keys signed it.
    """
    tell = progress or silent
    with Bundle.open(path, "full", trusted_keys) as bundle:
        cases = bundle.cases
        checks: List[Check] = []
        result = Verification(
            str(bundle.path),
            len(bundle.manifest.members),
            len(cases),
            checks,
            len(cases) * len(bundle.manifest.outputs),
            bundle.manifest.signature.key,
            trusted_keys is not None,
            *_other_cpu(bundle),
        )
        if result.not_run:
            return result
        library = find_library(bundle)
        board = find_board(bundle.manifest.boards)
        counts = sorted({1, default_threads(board) if threads is None else threads})
        names = _implementations(library, implementation)
        combinations = [(name, count) for name in names for count in counts]
        for step, (name, count) in enumerate(combinations):
            tell(f"running the embedded cases on {name}, {count} threads", step, len(combinations))
            with library.open(
                bytes(bundle.member(PROGRAM)),
                bundle.weights,
                threads=count,
                implementation=name,
                cache=default_cache_bytes(board),
            ) as model:
                checks.append(_check(model, library, bundle, cases, name, count))
        return result


def _other_cpu(bundle: Bundle) -> Tuple[str, str]:
    """That the bundle's engine is for another CPU than this, and what to do; empty where it is not."""
    if ENGINE not in bundle:
        return "", ""
    try:
        check_library_architecture(bundle, machine.architecture(), "this")
    except UnsupportedDeviceError as error:
        return error.message, error.hint
    return "", ""


def _implementations(library: Library, wanted: Optional[str]) -> Sequence[str]:
    available = library.implementations()
    if wanted is None:
        return available
    if wanted not in available:
        raise UnsupportedDeviceError(
            f"this CPU cannot run the implementation {wanted!r}", hint=f"choose from {', '.join(available)}"
        )
    return [wanted]


def _check(
    model: NativeModel, library: Library, bundle: Bundle, cases: Sequence[Case], name: str, threads: int
) -> Check:
    failures: List[str] = []
    batches = 0
    per_sequence = {output.name: output.domain == "sequences" for output in bundle.manifest.outputs}
    for number, case in enumerate(cases):
        # Sequences alone must give what they give in the batch; a case of one sequence is alone already.
        sequences = len(case.starts) - 1
        for part in [
            slice(0, sequences),
            *([slice(i, i + 1) for i in range(sequences)] if sequences > 1 else []),
        ]:
            batches += 1
            first, last = int(case.starts[part.start]), int(case.starts[part.stop])
            starts = np.ascontiguousarray(case.starts[part.start : part.stop + 1] - first)
            batch = PackedBatch(
                starts,
                case.ids[first:last],
                case_positions(library, bundle.manifest.model, starts),
                case.token_types[first:last] if bundle.manifest.model.type_vocabulary else None,
            )
            results = model.run(batch)
            if len(results) != len(bundle.manifest.outputs):
                listed = len(bundle.manifest.outputs)
                failures.append(f"case {number}: {len(results)} results; the manifest lists {listed}")
            for output, found in zip(bundle.manifest.outputs, results):
                if output.name not in case.outputs:
                    failures.append(f"case {number} holds no {output.name}")
                    continue
                rows = part if per_sequence[output.name] else slice(first, last)
                difference = _difference(found, case.outputs[output.name][rows])
                if difference:
                    failures.append(f"case {number}, {output.name}: {difference}")
    return Check(name, threads, batches, failures)


def _difference(found: np.ndarray, expected: np.ndarray) -> str:
    """How two arrays differ in their bits; empty when they do not."""
    expected = np.ascontiguousarray(expected)
    if found.shape != expected.shape:
        return f"shape {found.shape}, expected {expected.shape}"
    differing = found.view(np.uint32) != expected.view(np.uint32)
    if not differing.any():
        return ""
    largest = float(np.abs(found - expected).max())
    return f"{int(differing.sum())} of {found.size} values differ, by up to {largest:.3g}"
