"""The one error family of obert-edge.

Every error a user can cause derives from :class:`ObertEdgeError`. Its message says what was found and what
was expected; ``hint`` says what to do; and ``exit_code`` is what the command line returns (0 is success):

====  =======================================================
1     a check failed: the input was understood but is not right
2     usage: the caller asked for something that does not exist
3     this device cannot run what was asked
====  =======================================================
"""

from __future__ import annotations


class ObertEdgeError(Exception):
    """Base of every error obert-edge raises on purpose.

    Args:
        message: what was found, and what was expected.
        hint: what the user can do about it, as an imperative sentence.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.hint}" if self.hint else self.message


class UsageError(ObertEdgeError):
    """An argument, option or recipe is not one obert-edge accepts."""

    exit_code = 2


class CheckpointError(ObertEdgeError):
    """A model folder is missing, truncated, unsafe to read or unsupported."""


class DataError(ObertEdgeError):
    """A data file is missing, lacks a column or carries an unknown label."""


class BundleError(ObertEdgeError):
    """A bundle is truncated, altered, of another format, or not a bundle."""


class InputError(ObertEdgeError):
    """Arrays or texts given to a session do not fit the model."""


class VerificationError(ObertEdgeError):
    """A check the user asked for failed: a hash, an embedded case, a speed-up."""


class UnsupportedDeviceError(ObertEdgeError):
    """This CPU, operating system or Python cannot run what was asked."""

    exit_code = 3


class DeviceError(ObertEdgeError):
    """A device at the end of a network could not be reached, went away, or has no room."""


class HubError(ObertEdgeError):
    """A model hub could not be reached, refuses, or lacks the repository, revision or file asked for."""
