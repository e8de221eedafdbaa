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
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric as Family

    from agent.service.metrics import Metric, Reading

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAMILIES = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}


def write(metric: Metric, readings: Iterable[Reading]) -> bytes:
    """What one metric read, as text: the text of all of them, one behind the other, is a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Read(metric, readings))
    return generate_latest(registry)


class _Read(Collector):
    def __init__(self, metric: Metric, readings: Iterable[Reading]) -> None:
        self._metric = metric
        self._readings = readings

    def collect(self) -> Iterator[Family]:
        metric = self._metric
        family = _FAMILIES[metric.kind](metric.name, metric.text, labels=metric.labels)
        for labels, value in self._readings:
            # The format itself escapes quotes and line feeds, and nothing else.
            shown = tuple(map(printable, labels))
            if isinstance(value, Tally):
                bounds = [*map(str, value.bounds), "+Inf"]
                buckets = list(zip(bounds, value.cumulative(), strict=True))
                family.add_metric(shown, buckets, value.total)
            else:
                family.add_metric(shown, value)
        yield family
