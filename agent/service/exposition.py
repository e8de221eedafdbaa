"""Prometheus's text format, version 0.0.4. The only file that knows prometheus-client.

Imported at the first scrape: an agent that nobody scrapes never pays for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from agent.histogram import Tally
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.core import Metric as Family

    from agent.service.metrics import Metric, Reading

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAMILIES = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}


def write(read: Iterable[tuple[Metric, Sequence[Reading]]]) -> bytes:
    """What each metric read, as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Read(read))
    return generate_latest(registry)


class _Read(Collector):
    def __init__(self, read: Iterable[tuple[Metric, Sequence[Reading]]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Family]:
        for metric, readings in self._read:
            family = _FAMILIES[metric.kind](metric.name, metric.text, labels=metric.labels)
            for labels, value in readings:
                # The format itself escapes quotes and line feeds, and nothing else.
                shown = tuple(map(printable, labels))
                if isinstance(value, Tally):
                    bounds = [*map(str, value.bounds), "+Inf"]
                    buckets = list(zip(bounds, value.cumulative(), strict=True))
                    family.add_metric(shown, buckets, value.total)
                else:
                    family.add_metric(shown, value)
            yield family
