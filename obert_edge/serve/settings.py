"""What a server can be told: one declaration per option, for the command line and for programs alike."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Optional, Tuple

from obert_edge.device.commands.option import Option
from obert_edge.errors import UsageError

_OPTION = "obert_edge.option"


def _declared(flag: str, help: str, **facts: Any) -> Any:
    """A field that is an option of the command line; see :class:`Option`."""
    option = Option(flag, help, **facts)
    default = () if option.repeatable else option.default
    return dataclasses.field(default=default, metadata={_OPTION: option})


@dataclass(frozen=True)
class Settings:
    """How to serve.

    A field is the declaration of an option; its help says what it means.

    Raises:
        UsageError: a value is out of range, or two of them contradict each other.
    """

    host: str = _declared("--host", "Address to listen on.", type=str, default="127.0.0.1", metavar="ADDRESS")
    port: int = _declared(
        "--port", "Port to listen on; 0: any free one.", type=int, default=8080, minimum=0, maximum=65535
    )
    uds: Optional[str] = _declared(
        "--uds", "Unix socket to listen on, in place of host and port; mode 0660.", type=str, metavar="PATH"
    )
    threads: Optional[int] = _declared(
        "--threads",
        "Threads of the engine.",
        type=int,
        otherwise="as many as this process may use",
        minimum=1,
        maximum=1024,
    )
    implementation: Optional[str] = _declared(
        "--implementation",
        "Kernels to use, such as avx2 or scalar.",
        type=str,
        otherwise="the best for this CPU",
    )
    trusted_keys: Tuple[str, ...] = _declared(
        "--key",
        "Refuse a bundle that this key did not sign, now and at every reload: the .pub file of `obert-edge "
        "keygen`, or ed25519:...; repeatable: any of them.",
        type=str,
        repeatable=True,
        name="trusted_keys",
        metavar="KEY",
    )
    prompt_name: Optional[str] = _declared(
        "--prompt-name",
        "Prompt of the model to put before a text where a request names none.",
        type=str,
        otherwise="the model's default",
    )
    truncate: bool = _declared(
        "--truncate",
        "Cut texts that are longer than the model takes, where a request does not say.",
        type=bool,
        default=True,
    )
    max_batch_tokens: int = _declared(
        "--max-batch-tokens",
        "Tokens of waiting texts that are run together, at most.",
        type=int,
        default=1024,
        minimum=1,
    )
    max_queue: int = _declared(
        "--max-queue",
        "Requests that are being answered or wait for it, at most; others get 429.",
        type=int,
        default=512,
        minimum=1,
    )
    max_queue_tokens: int = _declared(
        "--max-queue-tokens", "The same in tokens.", type=int, default=262144, minimum=1
    )
    max_inputs: int = _declared(
        "--max-inputs", "Texts of a request, at most; others get 413.", type=int, default=2048, minimum=1
    )
    max_request_tokens: int = _declared(
        "--max-request-tokens",
        "Tokens of a request, those of every window of a long text included, at most.",
        type=int,
        default=131072,
        minimum=1,
    )
    max_body_bytes: int = _declared(
        "--max-body-bytes", "Bytes of a request, at most.", type=int, default=2 << 20, minimum=1024
    )
    max_connections: int = _declared(
        "--max-connections", "Connections, at most; others get 503.", type=int, default=1024, minimum=1
    )
    body_timeout: float = _declared(
        "--body-timeout",
        "Seconds a client may take to send the head of a request, and as many for its body.",
        type=float,
        default=30.0,
        metavar="SECONDS",
        minimum=0.1,
    )
    keep_alive: float = _declared(
        "--keep-alive",
        "Seconds an idle connection is kept.",
        type=float,
        default=75.0,
        metavar="SECONDS",
        minimum=0,
    )
    shutdown_timeout: float = _declared(
        "--shutdown-timeout",
        "Seconds to finish accepted requests after SIGTERM, at most.",
        type=float,
        default=30.0,
        metavar="SECONDS",
        minimum=0,
    )
    watch: float = _declared(
        "--watch",
        "Seconds between two looks at whether a bundle's file was replaced; 0: reload on SIGHUP alone.",
        type=float,
        default=5.0,
        metavar="SECONDS",
        minimum=0,
    )
    access_log: bool = _declared("--access-log", "Log every request on stderr.", default=False)

    def __post_init__(self) -> None:
        for option in OPTIONS:
            option.check(getattr(self, option.parameter))
        if self.max_request_tokens > self.max_queue_tokens:
            raise UsageError(
                f"--max-request-tokens is {self.max_request_tokens}, more than the {self.max_queue_tokens} "
                "of --max-queue-tokens: such a request could never be accepted",
                hint="lower the one, or raise the other",
            )


#: The options in the order in which the help lists them.
OPTIONS: Tuple[Option, ...] = tuple(field.metadata[_OPTION] for field in dataclasses.fields(Settings))
