"""What a scrape says, read as Prometheus reads it, and what any scrape must be like."""

import re
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

UNITS = ("_seconds", "_bytes", "_ratio", "_packets", "_per_second", "_info", "_celsius")
#: that count things which are no unit: the name says what they are
COUNTED = re.compile(
    r"_(connections|connections_limit|connections_open|sessions|streams|nodes|strangers|worker_up|gso_active|"
    r"fds|max_fds|requests|handshakes|plis|stalls|reports|restarts|refusals|tried|refused|received|sent)$"
)


@dataclass
class Scrape:
    """The families of one scrape by name."""

    families: dict[str, Metric]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert found, f"no sample of {name} with {labels}"
        return sum(found)

    def labels(self, name: str, label: str) -> set[str]:
        return {
            sample.labels[label]
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name
        }


def read(text: str) -> Scrape:
    return Scrape({family.name: family for family in text_string_to_metric_families(text)})


def check(scrape: Scrape, prefix: str) -> None:
    """What Prometheus' conventions and ours ask of every family and sample."""
    assert scrape.families
    for name, family in scrape.families.items():
        assert name.startswith((prefix, "process_")), name
        assert len(family.documentation) > 10, f"{name} has no help"
        assert family.type in ("counter", "gauge", "histogram"), f"{name} has no type"
        assert name.endswith(UNITS) or COUNTED.search(name), f"{name} has no unit and counts nothing known"
        seen = set()
        for sample in family.samples:
            assert sample.value == sample.value, f"{name} is not a number"
            if family.type == "counter":
                assert sample.name == f"{name}_total"
                assert sample.value >= 0
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in seen, f"{key} is there twice"
            seen.add(key)
        if family.type == "histogram":
            _check_histogram(family)


def _check_histogram(family: Metric) -> None:
    """Buckets rise, and the last of them is the count."""
    rows: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    counts = {}
    for sample in family.samples:
        others = tuple(sorted(item for item in sample.labels.items() if item[0] != "le"))
        if sample.name.endswith("_bucket"):
            rows.setdefault(others, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[others] = sample.value
    assert rows.keys() == counts.keys()
    for others, buckets in rows.items():
        bounds, below = zip(*buckets, strict=True)
        assert list(bounds) == sorted(set(bounds))
        assert list(below) == sorted(below)
        assert (bounds[-1], below[-1]) == (float("inf"), counts[others])
