"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from leaf_fer.serving.gate import Gate
from leaf_fer.version import __version__

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """Counters of one server.

    Args:
        gate: whose requests are counted while they are inside.
        paths: those that get a name of their own; a client cannot make up others.
        classes: what faces may be.
    """

    def __init__(self, gate: Gate, paths: Iterable[str], classes: Iterable[str]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._paths = frozenset(paths)
        self._requests = Counter(
            "leaf_requests", "Answers by path and status", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "leaf_request_seconds",
            "From a request to the end of its answer",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self._faces = Counter("leaf_faces", "Faces by label", ["label"], registry=registry)
        for name in classes:
            self._faces.labels(name)  # a class that does not come has 0
        inside = Gauge("leaf_inside", "Requests that wait or are computed", registry=registry)
        inside.set_function(lambda: gate.inside)
        computing = Gauge("leaf_computing", "Photos that are computed", registry=registry)
        computing.set_function(lambda: gate.computing)
        info = Gauge("leaf_info", "The version of leaf-fer", ["version"], registry=registry)
        info.labels(__version__).set(1)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        path = path if path in self._paths else "other"
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def seen(self, labels: Iterable[str]) -> None:
        """Count faces."""
        for label in labels:
            self._faces.labels(label).inc()

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
