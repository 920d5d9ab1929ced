"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from typing import Callable, Dict, Tuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

#: Upper bounds in seconds: a short text on a fast CPU takes milliseconds, a long one elsewhere seconds.
_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKENS = tuple(float(1 << power) for power in range(4, 16))
_TEXTS = tuple(float(1 << power) for power in range(11))


class Metrics:
    """The numbers of one server; each has a registry of its own, so that a process may have several.

    Args:
        waiting: tells how many requests are accepted and not answered, and how many of their tokens wait.
    """

    def __init__(self, waiting: Callable[[], Tuple[int, int]]) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "obert_edge_requests", "Requests answered.", ("endpoint", "status"), registry=registry
        )
        # The library looks labels up under a lock, which takes longer than to count.
        self._of_answers: Dict[Tuple[str, int], Tuple[Counter, Histogram]] = {}
        self._request_seconds = Histogram(
            "obert_edge_request_seconds",
            "From the head of a request to its whole answer.",
            ("endpoint",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "obert_edge_refused", "Requests refused, by the code of the error.", ("code",), registry=registry
        )
        self.texts = Counter("obert_edge_texts", "Texts (or pairs) computed.", ("model",), registry=registry)
        self.tokens = Counter("obert_edge_tokens", "Tokens computed.", ("model",), registry=registry)
        self.abandoned = Counter(
            "obert_edge_abandoned", "Accepted requests whose client went away before.", registry=registry
        )
        self.queue_seconds = Histogram(
            "obert_edge_queue_seconds",
            "From acceptance until the first text of a request is run.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_tokens = Histogram(
            "obert_edge_batch_tokens", "Tokens run together.", buckets=_TOKENS, registry=registry
        )
        self.batch_texts = Histogram(
            "obert_edge_batch_texts", "Texts run together.", buckets=_TEXTS, registry=registry
        )
        self.batch_seconds = Histogram(
            "obert_edge_batch_seconds", "What a batch took.", buckets=_SECONDS, registry=registry
        )
        self.reloads = Counter(
            "obert_edge_reloads", "Looks at a bundle's file that changed.", ("result",), registry=registry
        )
        self.models = Gauge(
            "obert_edge_model_info",
            "1 for each model that is served.",
            ("model", "task", "implementation", "version"),
            registry=registry,
        )
        queue = Gauge(
            "obert_edge_queue_requests", "Requests accepted and not yet answered.", registry=registry
        )
        queue.set_function(lambda: waiting()[0])
        tokens = Gauge("obert_edge_queue_tokens", "Tokens accepted and not yet computed.", registry=registry)
        tokens.set_function(lambda: waiting()[1])

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            path: one of the server's own, or one word for all others, so that numbers stay few.
            status: of the answer.
            seconds: that it took.
        """
        found = self._of_answers.get((path, status))
        if found is None:
            found = self._requests.labels(path, str(status)), self._request_seconds.labels(path)
            self._of_answers[path, status] = found
        requests, request_seconds = found
        requests.inc()
        request_seconds.observe(seconds)

    def exposition(self, accept: str) -> Tuple[bytes, str]:
        """The page that Prometheus reads, and its content type.

        Args:
            accept: the header ``Accept`` of who asks; the text format unless it asks for OpenMetrics.
        """
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type
