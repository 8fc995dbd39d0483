"""Prometheus' own parser reads /metrics, in the strict form of OpenMetrics."""

import pathlib
import re
import urllib.error
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from client import MIB
from lund import Lund


def metrics(server):
    with urllib.request.urlopen(f"{server}/metrics", timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        families = list(text_string_to_metric_families(answer.read().decode()))
    assert all(family.documentation for family in families)
    return {(sample.name, *sorted(sample.labels.items())): sample.value
            for family in families for sample in family.samples}


def test_metrics_agree_with_what_was_done(client, server):
    assert metrics(server)[("lund_state", ("state", "serving"))] == 1
    client.make_disk("measured", size=3 * MIB)
    seen = metrics(server)
    assert seen[("lund_disk_size_bytes", ("disk", "measured"))] == 3 * MIB
    assert seen[("lund_jobs", ("kind", "create-disk"), ("state", "Completed"))] >= 1
    assert seen[("lund_pool_available", ("pool", "default"))] == 1
    free = seen[("lund_pool_free_bytes", ("pool", "default"))]
    assert 0 < free <= seen[("lund_pool_size_bytes", ("pool", "default"))]
    assert seen[("lund_commands_total", ("kind", "read"))] >= 0
    assert ("lund_build_info", ("version", "0.1.0")) in seen


def test_it_is_ready(server):
    with urllib.request.urlopen(f"{server}/readyz", timeout=60) as answer:
        assert answer.read() == b"serving\n"


def test_dashboard_and_alert_rules_ask_for_metrics_that_are_there():
    with Lund("--demo", "--demo-size", "1MiB") as lund, \
            urllib.request.urlopen(f"{lund.server}/metrics", timeout=60) as answer:
        known = {family.name for family in text_string_to_metric_families(answer.read().decode())}
    # There is none of them as long as nothing has failed.
    known.add("lund_faults")
    files = pathlib.Path(__file__).resolve().parents[3] / "packaging" / "prometheus"
    for name in ("alerts.yml", "grafana-dashboard.json"):
        asked = set(re.findall(r"\blund_[a-z_]+", (files / name).read_text()))
        assert len(asked) > 5
        assert {metric.removesuffix("_total") for metric in asked} <= known, name
