"""Prometheus' own parser reads /metrics, in the strict form of OpenMetrics."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest
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


# File systems of which parts of images are pinned.
LOCAL = ("ext2/ext3", "xfs", "btrfs", "f2fs", "tmpfs", "ramfs")
FILES = pathlib.Path(__file__).resolve().parents[3] / "packaging" / "prometheus"
# Its own, or the one that tests/run unpacks.
PROMTOOL = shutil.which("promtool", path=os.pathsep.join(
    [os.environ.get("PATH", ""), str(FILES.parents[1] / "target" / "promtool" / "usr" / "bin")]))


def read_and_write(url):
    """Some of both, and a flush, which a thread has to wait for."""
    script = "write 0 60M\nflush\nread 0 64k\nquit\n"
    subprocess.run(["qemu-io", "-f", "raw", url], input=script, text=True, check=True, timeout=120,
                   capture_output=True)


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """The metrics of a disk that was used, and the log."""
    config = tmp_path_factory.mktemp("metrics") / "lund.toml"
    config.write_text("[iscsi]\nslow_command_milliseconds = 1\n")
    with Lund("--demo", "--demo-size", "64MiB", "--config", config) as lund:
        try:
            read_and_write(lund.url)
        except (FileNotFoundError, subprocess.CalledProcessError):
            pytest.skip("qemu-io with its iSCSI module is not installed")
        with urllib.request.urlopen(f"{lund.server}/metrics", timeout=60) as answer:
            yield answer.read().decode(), lund.log.read_text()


def test_a_disk_tells_what_was_done_with_it(used):
    families = text_string_to_metric_families(used[0])
    seen = {(sample.name, *sorted(sample.labels.items())): sample.value
            for family in families for sample in family.samples}
    [disk] = {dict(key[1:])["disk"] for key in seen if key[0] == "lund_disk_commands_total"}
    of = lambda name, **labels: seen[(name, *sorted({"disk": disk, **labels}.items()))]  # noqa: E731
    assert of("lund_disk_data_bytes_total", kind="write") >= 1 << 16
    assert of("lund_disk_data_bytes_total", kind="read") >= 1 << 16
    assert of("lund_disk_commands_total", kind="write") >= 1
    flushes = of("lund_handed_off_commands_seconds_count", kind="flush")
    assert flushes >= 1 and of("lund_handed_off_commands_seconds_sum", kind="flush") > 0
    assert of("lund_handed_off_commands_seconds_bucket", kind="flush", le="+Inf") == flushes
    # The first WRITE and the first READ of the session are timed, and every flush.
    for kind in ("read", "write", "flush", "other"):
        timed = of("lund_disk_command_time_seconds_count", kind=kind)
        assert timed >= 1 and of("lund_disk_command_time_seconds_sum", kind=kind) > 0, kind
    assert of("lund_disk_command_time_seconds_count", kind="read") <= of("lund_disk_commands_total", kind="read")
    assert of("lund_disk_queued_commands") == 0
    # The demo's disk, target and mapping.
    assert seen[("lund_store_commits_seconds_count",)] >= 3 and seen[("lund_store_available",)] == 1
    assert seen[("lund_store_size_bytes",)] > 0 and seen[("lund_store_journal_size_bytes",)] > 0
    # POWER ON is told to whoever comes.
    assert seen[("lund_check_conditions_total", ("sense_key", "unit_attention"))] >= 1


def classic(text):
    """In the older format, which promtool reads: counters are named as their samples are."""
    counters = set(re.findall(r"^# TYPE (\S+) counter", text, re.M))
    lines = []
    for line in text.splitlines(keepends=True):
        head = re.match(r"# (\S+) ?(\S*)", line)
        if head and head[2] in counters:
            line = line.replace(head[2], f"{head[2]}_total", 1)
        if not head or head[1] in ("HELP", "TYPE"):
            lines.append(line)
    return "".join(lines)


def test_what_was_slow_is_in_the_log(used):
    families = {it.name: it for it in text_string_to_metric_families(used[0])}
    samples = families["lund_handed_off_commands_seconds"].samples
    total = sum(it.value for it in samples if it.name.endswith("_count"))
    fast = sum(it.value for it in samples if it.name.endswith("_bucket") and it.labels["le"] == "0.001")
    slow = [json.loads(line) for line in used[1].splitlines() if "a command was slow" in line]
    assert len(slow) == total - fast
    assert all(re.fullmatch("[0-9a-f]{4}-[0-9a-f]{8}", line["trace"]) and line["lun"] == 0 for line in slow)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there")
def test_promtool_has_nothing_to_say(used):
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=classic(used[0]), text=True, capture_output=True,
                             timeout=60)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    rules = subprocess.run([PROMTOOL, "check", "rules", FILES / "alerts.yml"], text=True, capture_output=True, timeout=60)
    assert rules.returncode == 0, rules.stdout + rules.stderr


def test_sessions_and_caches_of_images_are_told(tmp_path):
    with Lund() as lund:
        def ask(method, path, body):
            request = urllib.request.Request(f"{lund.server}/api/v1{path}", json.dumps(body).encode(),
                                             {"Content-Type": "application/json"}, method=method)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        job = ask("POST", "/disks", {"name": "cached", "size_bytes": 64 * MIB, "format": "qcow2"})
        with urllib.request.urlopen(f"{lund.server}/api/v1/jobs/{job['id']}?wait_seconds=60", timeout=90) as answer:
            assert json.loads(answer.read())["state"] == "Completed"
        target = ask("POST", "/targets", {"name": "t"})["name"]
        ask("POST", "/targets/t/luns", {"disk": "cached"})
        url = f"iscsi://{lund.portal}/{target}/0"
        try:
            client = subprocess.Popen(["qemu-io", "-f", "raw", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except FileNotFoundError:
            pytest.skip("qemu-io is not installed")
        try:
            client.stdin.write("write 0 60M\n")
            client.stdin.flush()
            line = client.stdout.readline()
            if "wrote" not in line:
                pytest.skip(f"qemu-io has no iSCSI module: {line}")
            seen = metrics(lund.server)
            if subprocess.check_output(["stat", "-f", "-c", "%T", lund.data_dir], text=True).strip() in LOCAL:
                # What is read again and again is pinned.
                client.stdout.readline()
                deadline = time.monotonic() + 60
                while not 2 * MIB <= metrics(lund.server)[("lund_image_pinned_bytes",)] < 64 * MIB:
                    assert time.monotonic() < deadline
                    client.stdin.write("read -P 0xcd 0 4k\n")
                    client.stdin.flush()
                    assert "read 4096/4096" in client.stdout.readline()
                    client.stdout.readline()
        finally:
            client.kill()
            client.wait()
    [session] = [dict(key[1:]) for key in seen if key[0] == "lund_session_outstanding_commands"]
    assert session["target"] == target and session["initiator"].startswith("iqn.")
    of = lambda name, **labels: seen[(name, *sorted({**session, **labels}.items()))]  # noqa: E731
    assert of("lund_session_data_bytes_total", kind="write") >= 60 * MIB
    assert of("lund_session_commands_total", kind="write") >= 1
    # The first WRITE, and whatever is no READ or WRITE.
    for kind in ("write", "other"):
        count = of("lund_session_command_time_seconds_count", kind=kind)
        assert 1 <= count <= of("lund_session_command_time_seconds_bucket", kind=kind, le="+Inf")
        assert 0 < of("lund_session_command_time_seconds_sum", kind=kind) < 600 * count
    cache = {key[0]: value for key, value in seen.items() if key[0].startswith("lund_image_cache")}
    assert 0 < cache["lund_image_cache_size_bytes"] <= cache["lund_image_cache_limit_bytes"]
    assert {"lund_image_cache_loads_total", "lund_image_cache_evictions_total", "lund_image_cache_dirty_bytes"} <= set(cache)


def test_it_is_ready(server):
    with urllib.request.urlopen(f"{server}/readyz", timeout=60) as answer:
        assert answer.read() == b"serving\n"


def test_dashboard_and_alert_rules_ask_for_metrics_that_are_there():
    with Lund("--demo", "--demo-size", "1MiB") as lund, \
            urllib.request.urlopen(f"{lund.server}/metrics", timeout=60) as answer:
        known = {family.name for family in text_string_to_metric_families(answer.read().decode())}
    # There is none of them as long as nothing has failed, or waited.
    known |= {"lund_faults", "lund_handed_off_commands_seconds", "lund_disk_command_time_seconds",
              "lund_session_outstanding_commands", "lund_image_cache_loads"}
    for name in ("alerts.yml", "grafana-dashboard.json"):
        asked = set(re.findall(r"\blund_[a-z_]+", (FILES / name).read_text()))
        assert len(asked) > 5
        assert {re.sub("_(total|bucket|sum|count)$", "", metric) for metric in asked} <= known, name
