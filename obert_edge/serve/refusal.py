"""What a client is told when its request is refused: a status, and an error as OpenAI's API words it."""

from __future__ import annotations

from typing import Any, Dict, Optional

from obert_edge.errors import InputError, ObertEdgeError, UsageError

#: Status -> the ``type`` of an error, as OpenAI's clients know them.
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: of the response.
        message: what was found, and what was expected or is to be done.
        code: a word for programs, such as ``model_not_found``.
        param: the field of the request that it is about.
        retry_after: whole seconds after which the same request may be accepted.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: Optional[str] = None,
        retry_after: Optional[int] = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after

    @property
    def headers(self) -> Dict[str, str]:
        """Headers of the response."""
        found = {}
        if self.retry_after is not None:
            found["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        return found

    @property
    def body(self) -> Dict[str, Any]:
        """The response as JSON values."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


def bad(param: str, found: str, expected: str, *, code: str = "invalid_value") -> RefusedError:
    """A field that is not what it has to be."""
    return RefusedError(400, f"{param} is {found}; expected {expected}", code=code, param=param)


def refusal_of(error: Exception) -> RefusedError:
    """What to answer for an error of the device wing, or for one that nobody foresaw."""
    if isinstance(error, (InputError, UsageError)):
        text = f"{error.message}: {error.hint}" if error.hint else error.message
        return RefusedError(400, text, code="invalid_value")
    if isinstance(error, ObertEdgeError):
        return RefusedError(500, error.message, code="model_error")
    # What it says may be about this machine, so only the log has it.
    return RefusedError(500, "the server failed on this request; its log says why", code="internal_error")
