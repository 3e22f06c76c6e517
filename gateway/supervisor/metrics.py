"""What all processes of a gateway have counted together, in the formats that Prometheus reads.

Each worker counts in memory of its own that was made here and outlives it (`gateway.figures`); what one that has ended
had counted is added to a sum, so that a worker's death loses no count and no counter ever goes back.
"""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import gateway
from gateway import figures
from gateway.figures import BUILD, CONFIGURED_AT, STARTED_AT, UPSTREAM_OUT, Figure, Sum, Value
from gateway.resources import engine
from gateway.underway import UnderWay


class Counts(Collector):
    """The counts of a gateway, its supervisor's own among them."""

    def __init__(self) -> None:
        self._ended = Sum()
        self._living = [figures.memory_for_one()]
        self.under_way = UnderWay()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def begin(self) -> None:
        """Count in this process too, which is the supervisor, from its start on."""
        figures.share(self._living[0])
        now = time.time()
        STARTED_AT.set(now)
        CONFIGURED_AT.set(now)
        BUILD.set(1.0, gateway.__version__, platform.python_version(), engine())

    @contextmanager
    def of_one(self) -> Iterator[int]:
        """The file descriptor of memory for one more process, which has ended when the context does."""
        memory = figures.memory_for_one()
        self._living.append(memory)
        try:
            yield memory
        finally:
            self._living.remove(memory)
            self._ended.add(figures.read(memory), ended=True)
            os.close(memory)

    def left_out(self) -> frozenset[str]:
        """The upstreams that most of the workers which know them give no calls now."""
        votes: dict[str, list[float]] = {}
        for memory in self._living:
            for value in figures.read(memory):
                if value.figure is UPSTREAM_OUT:
                    votes.setdefault(value.labels[0], []).append(value.cells[0])
        return frozenset(place for place, given in votes.items() if 2 * sum(given) > len(given))

    def exposed(self, accept: str) -> tuple[bytes, str]:
        """All of it, in the format that a scraper's Accept field asks for, and that format's media type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks a collector for."""
        total = self._ended.copy()
        for memory in self._living:
            total.add(figures.read(memory))
        families: dict[str, Metric] = {}
        for value in total.values():
            figure = value.figure
            if figure.name not in families:
                families[figure.name] = _family(figure)
            _add(families[figure.name], value)
        yield from families.values()

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked at the start, when there is nothing to tell."""
        return iter(())


def _family(figure: Figure) -> Metric:
    if figure.kind == "histogram":
        return HistogramMetricFamily(figure.name, figure.text, labels=figure.labels)
    make = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    return make(figure.name, figure.text, labels=figure.labels)


def _add(family: Metric, value: Value) -> None:
    if isinstance(family, HistogramMetricFamily):
        bounds = [*map(str, value.figure.buckets), "+Inf"]
        family.add_metric(value.labels, list(zip(bounds, value.running, strict=True)), value.cells[-1])
    elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
        family.add_metric(value.labels, value.cells[0])
