"""What many sessions, many logins and many LUNs cost, how well limits hold, and what a greedy
initiator costs another one."""

import concurrent.futures
import http.client
import json
import pathlib
import subprocess
import sys
import threading
import time

from servers import Lund

SESSIONS = 1000
# Seconds.
SETTLED = 4
LUNS = (1000, 10_000)
TARGET = "iqn.2026-01.invalid.bench:luns{}"
# As many as a target may have.
LUNS_A_TARGET = 256
LIMITS = (("iops", 20_000, 4096), ("bytes_per_second", 100 * 2**20, 65536))
MODEST = ("--block", 4096, "--rw", "randread", "--depth", 1, "--connections", 1)
GREEDY = ("--block", 65536, "--rw", "randread", "--depth", 64, "--connections", 4,
          "--initiator", "iqn.2026-01.invalid.loadgen:greedy")


class Rest:
    """One connection to the daemon's REST."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=120)

    def __call__(self, method, path, body=None):
        text = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if text else {}
        self.connection.request(method, f"/api/v1{path}", text, headers)
        response = self.connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            sys.exit(f"{method} {path}: {response.status} {answer.decode(errors='replace')}")
        return json.loads(answer) if answer else None


def sessions(server, loadgen, memory):
    """Memory of idle sessions, and what is left of it when they have gone."""
    # Longer than it takes until what sessions have left is given back.
    time.sleep(SETTLED)
    before = memory(server.pid)["Rss"]
    with loadgen.hold(server, SESSIONS):
        time.sleep(2)
        during = memory(server.pid)["Rss"]
    time.sleep(SETTLED)
    after = memory(server.pid)["Rss"]
    each = (during - before) / SESSIONS
    print(f"{SESSIONS} idle sessions: {each:.1f} KiB RSS each, {(during - before) / 1024:.1f} MiB "
          f"in all; {(after - before) / 1024:.1f} MiB above the start when they have gone")
    return {"rss_per_session_kib": each, "rss_before_kib": before, "rss_during_kib": during,
            "rss_after_kib": after}


def cycles(server, loadgen, seconds):
    """Logins and logouts, one behind the other."""
    out = loadgen.run(server, "--cycles", "--seconds", seconds, "--server-pid", server.pid,
                      timeout=seconds + 60)
    row = json.loads(out)
    print(f"login and logout: {row['per_second']:.0f} a second, {row['server_cpu_us']:.0f} µs of "
          "the server's CPU each")
    return row


def limits(server, loadgen, seconds):
    """How far throughput is from what limits allow."""
    rest = Rest(server.lund.server)
    disk = rest("GET", "/disks")[0]["name"]
    rows = {}
    for what, rate, block in LIMITS:
        rest("PUT", f"/limits/disks/{disk}", {what: rate})
        out = loadgen.run(server, "--block", block, "--rw", "randread", "--depth", 32,
                          "--connections", 4, "--seconds", seconds, "--json", timeout=seconds + 90)
        rest("DELETE", f"/limits/disks/{disk}")
        got = json.loads(out)["iops"] * (block if what == "bytes_per_second" else 1)
        rows[what] = got / rate
        print(f"a limit of {rate} {what.replace('_', ' ')}: {got / rate:.1%} of it")
    return rows


def fairness(server, loadgen, seconds):
    """A modest initiator alone, and beside a greedy one."""
    def modest():
        out = loadgen.run(server, *MODEST, "--seconds", seconds, "--json", timeout=seconds + 90)
        return json.loads(out)["p99_us"]

    alone = modest()
    command = loadgen.command(server, *GREEDY, "--seconds", seconds + 2, "--json")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as greedy:
        time.sleep(1)
        beside = modest()
        if greedy.wait():
            sys.exit("the greedy initiator failed")
    print(f"4 KiB reads at queue depth 1: p99 {alone:.0f} µs alone, {beside:.0f} µs beside an "
          f"initiator with {GREEDY[7]} connections of {GREEDY[5]} reads of 64 KiB: "
          f"{beside / alone:.1f} times")
    return {"alone_p99_us": alone, "beside_p99_us": beside}


def start_with(directory, loadgen, count, memory):
    """How long a daemon with so many LUNs takes to serve the last of them."""
    lund = Lund(data_dir=directory / f"luns{count}")
    with lund:
        rest = Rest(lund.server)
        targets = -(-count // LUNS_A_TARGET)
        for number in range(targets):
            rest("POST", "/targets", {"name": TARGET.format(number)})
        local = threading.local()

        def make(number):
            if not hasattr(local, "rest"):
                local.rest = Rest(lund.server)
            name = f"disk{number}"
            job = local.rest("POST", "/disks", {"name": name, "size_bytes": 2**20})
            local.rest("GET", f"/jobs/{job['id']}?wait_seconds=60")
            target, lun = divmod(number, LUNS_A_TARGET)
            local.rest("POST", f"/targets/{TARGET.format(target)}/luns", {"disk": name, "lun": lun})

        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(make, range(count)))
        made = time.monotonic() - begin
    begin = time.monotonic()
    lund.again = False
    with lund:
        ready = time.monotonic() - begin
        servers = [Served(lund, target, min(LUNS_A_TARGET, count - target * LUNS_A_TARGET) - 1)
                   for target in range(targets)]
        luns = sum(int(loadgen.run(it, "--report-luns", timeout=60)) for it in servers)
        served = time.monotonic() - begin
        time.sleep(1)
        rss = memory(lund.process.pid)["Rss"]
        threads = len(list(pathlib.Path(f"/proc/{lund.process.pid}/task").iterdir()))
    if luns != count:
        sys.exit(f"REPORT LUNS tells of {luns} LUNs, not of {count}")
    print(f"{count} LUNs: made in {made:.1f} s; a start with them serves after {ready:.2f} s, "
          f"REPORT LUNS of all targets and their last ones are answered after {served:.2f} s; "
          f"RSS {rss / 1024:.1f} MiB, {threads} threads")
    return {"luns": count, "made_s": made, "ready_s": ready, "served_s": served, "rss_kib": rss,
            "threads": threads}


class Served:
    """One LUN of a daemon, for the load generator."""

    name = "lund"

    def __init__(self, lund, target, lun):
        self.url = f"iscsi://{lund.portal}/{TARGET.format(target)}/{lun}"


def measure(server, directory, loadgen, seconds, memory, luns=LUNS):
    loadgen.fill(server)
    report = {"cycles": cycles(server, loadgen, seconds),
              "sessions": sessions(server, loadgen, memory),
              "limits": limits(server, loadgen, max(seconds, 3)),
              "fairness": fairness(server, loadgen, seconds)}
    report["luns"] = [start_with(directory, loadgen, count, memory) for count in luns]
    return report
