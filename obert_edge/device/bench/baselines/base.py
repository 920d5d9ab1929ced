"""What a baseline is: another engine that runs the same model, made from the same bundle."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Callable, ClassVar, List, Tuple

import numpy as np

from obert_edge.errors import UnsupportedDeviceError, UsageError

#: ``run(ids, mask, types)``, integer arrays [batch, sequence], to the model's results in the bundle's order.
Run = Callable[[Any, Any, Any], List[np.ndarray]]
#: The name of a module, and of the distribution on PyPI that has it.
Package = Tuple[str, str]


class Baseline(ABC):
    """An engine to compare with, in one precision.

    ``prepare`` and ``load`` may run in different processes: what one leaves on disk is all the other needs.
    """

    #: The name on the command line; the same as in the row of ``baselines.ENGINES``.
    name: ClassVar[str]
    #: The package that runs the model.
    engine: ClassVar[Package]
    #: The package that the model is translated with; a device that gets a prepared artifact does without.
    converter: ClassVar[Package]

    @property
    def version(self) -> str:
        """The version of the engine, which is imported, so that a later :meth:`load` is nothing but loading.

        Raises:
            UnsupportedDeviceError: it is not installed.
        """
        self.require(self.engine)
        return importlib.metadata.version(self.engine[1])

    def require(self, package: Package) -> None:
        """Import a package the baseline needs.

        Raises:
            UnsupportedDeviceError: it is not installed; if the engine that runs what it makes is not either,
                both are named.
        """
        module, distribution = package
        try:
            importlib.import_module(module)
        except ImportError as error:
            names, reason = [distribution], f": {error}"
            if package != self.engine and not _is_installed(self.engine):
                names, reason = list(dict.fromkeys([distribution, self.engine[1]])), ""
            raise UnsupportedDeviceError(
                f"the baseline {self.name} needs {' and '.join(names)}, which cannot be imported{reason}",
                hint=f"run `pip install {' '.join(names)}`, or measure without --baseline {self.name}",
            ) from error

    @abstractmethod
    def prepare(self, bundle: Path, workdir: Path, *, batch_size: int, sequence_length: int) -> Path:
        """Translate a bundle into the engine's own format.

        Args:
            bundle: the ``.oeb`` file.
            workdir: an existing folder; everything is written below it.
            batch_size: sequences per run; an engine with dynamic shapes ignores it.
            sequence_length: tokens per sequence; likewise.

        Returns:
            A folder in ``workdir`` to give to :meth:`load`.

        Raises:
            UnsupportedDeviceError: a package is not installed.
            UsageError: the model cannot take such sequences.
            BundleError: not a bundle, or one this version cannot translate.
        """

    @abstractmethod
    def load(self, artifact: Path, threads: int) -> Run:
        """Make the engine ready to run.

        Args:
            artifact: what :meth:`prepare` returned.
            threads: threads the engine may use.

        Raises:
            UnsupportedDeviceError: a package is not installed.
        """


def check_length(sequence_length: int, longest: int) -> None:
    """Check a sequence length against the model's position table.

    Raises:
        UsageError: it is not in 1 to ``longest``, in tokens.
    """
    if not 1 <= sequence_length <= longest:
        raise UsageError(
            f"a sequence length of {sequence_length} was asked for; this model takes 1 to {longest} tokens",
            hint=f"use a sequence length of at most {longest}",
        )


def _is_installed(package: Package) -> bool:
    return importlib.util.find_spec(package[0].partition(".")[0]) is not None
