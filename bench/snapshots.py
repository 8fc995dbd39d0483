"""How long initiators wait for a snapshot while they write as fast as they can."""

import json
import pathlib
import re
import statistics
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "interop"))
from lund import binary  # noqa: E402

CELL = (4096, "randwrite", 32, 4)
COUNT = 100
TIME = r'microseconds"?[=:]"?(\d+)'
WAITED = re.compile(rf"initiators waited.*?{TIME}|{TIME}.*?initiators waited")


def lunctl(server, *words):
    done = subprocess.run([binary("lunctl"), "--server", server.lund.server, "--json", *words],
                          capture_output=True, text=True, timeout=120)
    if done.returncode:
        sys.exit(f"lunctl {' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout or "null")


def waits(server):
    """Each pause of the data path, in milliseconds, as the daemon's log has it."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", server.lund.log.read_text(errors="replace"))
    return [int(one or other) / 1000 for one, other in WAITED.findall(text)]


def measure(server, loadgen, cell):
    """Snapshots are taken under full load, one behind the other; the pauses of all of them. None is
    deleted meanwhile: under such a load that takes seconds each."""
    loadgen.fill(server)
    stop, iops = threading.Event(), []

    def load():
        while not stop.is_set():
            iops.append(loadgen.measure(server, cell, 2)["iops"])

    thread = threading.Thread(target=load)
    thread.start()
    taken = []
    try:
        for number in range(COUNT):
            before = len(waits(server))
            lunctl(server, "snapshot", "create", f"s{number}", "demo")
            taken += waits(server)[before:]
    finally:
        stop.set()
        thread.join()
    taken.sort()
    at = lambda part: taken[min(len(taken) - 1, int(len(taken) * part))]  # noqa: E731
    print(f"{len(taken)} snapshots under {statistics.median(iops):.0f} random writes of 4 KiB a "
          f"second: initiators waited {at(0.5):.2f} ms (median), {at(0.99):.2f} ms (99 %), "
          f"{taken[-1]:.2f} ms (longest)")
    return {"milliseconds": taken, "iops": iops}
