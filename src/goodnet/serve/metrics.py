"""`Metrics`: what Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from goodnet.serve.answers import Answer

#: Upper bounds of the latency buckets in seconds: from a tenth of the fastest answer to the longest wait.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, model: Mapping[str, str], in_flight: Callable[[], int], waiting: Callable[[], int]) -> None:
        self._registry = own = CollectorRegistry()
        Info("goodnet_model", "The network that is served.", registry=own).info(dict(model))
        self._requests = Counter("goodnet_requests", "Requests to /predict, by HTTP status.", ["status"], registry=own)
        self._images = Counter("goodnet_images", "Pictures that were answered.", registry=own)
        self._refusals = Counter("goodnet_refusals", "Pictures that were refused, by guard.", ["guard"], registry=own)
        self._unguarded = Counter(
            "goodnet_unguarded", "Pictures that were answered though the guard failed.", registry=own
        )
        self._unrecorded = Counter("goodnet_unrecorded", "Requests whose refusals were not recorded.", registry=own)
        self._seconds = Histogram("goodnet_request_seconds", "Time of a request.", buckets=_SECONDS, registry=own)
        self._batches = Histogram(
            "goodnet_batch_images", "Pictures in a run of the network.", buckets=_IMAGES, registry=own
        )
        Gauge("goodnet_in_flight", "Requests that are being read or answered.", registry=own).set_function(in_flight)
        Gauge("goodnet_queue", "Requests that wait for the network or are in it.", registry=own).set_function(waiting)

    def count_request(self, status: int, seconds: float) -> None:
        """Count a request to /predict and the seconds that it took."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def count_answers(self, answers: Sequence[Answer]) -> None:
        """Count the answers of one request."""
        self._images.inc(len(answers))
        for answer in answers:
            if answer.refused:
                self._refusals.labels(answer.guard).inc()
            elif not answer.guarded:
                self._unguarded.inc()

    def count_batch(self, images: int) -> None:
        """Count a run of the network."""
        self._batches.observe(images)

    def count_unrecorded(self) -> None:
        """Count a request whose refusals could not be written to the audit log."""
        self._unrecorded.inc()

    def exposition(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)
