"""What sessions keep of their throughput while a storm of other connections is there."""

import contextlib
import resource
import socket
import statistics
import threading

SILENT, SLOW, SESSIONS = 10_000, 1000, 1000
CELL = (4096, "randread", 32, 4)


@contextlib.contextmanager
def connections(address, count):
    opened = []
    try:
        for _ in range(count):
            opened.append(socket.create_connection(address, timeout=30))
        yield opened
    finally:
        for connection in opened:
            connection.close()


@contextlib.contextmanager
def dribbling(address, count):
    """Connections that send a Login Request, a byte every second."""
    request = bytes([0x43, 0x87]) + bytes(46)
    stop = threading.Event()

    def run(opened):
        at = 0
        while not stop.wait(1):
            for connection in opened:
                # Those that have lost their place are closed by now.
                with contextlib.suppress(OSError):
                    connection.send(request[at % 48:at % 48 + 1])
            at += 1

    with connections(address, count) as opened:
        thread = threading.Thread(target=run, args=(opened,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextlib.contextmanager
def storm(server, loadgen):
    host, port = server.url.removeprefix("iscsi://").split("/")[0].rsplit(":", 1)
    address = (host.strip("[]"), int(port))
    with loadgen.hold(server, SESSIONS), dribbling(address, SLOW), connections(address, SILENT):
        yield


def measure(server, loadgen, cell, rounds, seconds, memory):
    """Calm and storm in turns."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loadgen.fill(server)
    results = {"calm": [], "storm": []}
    rss = {}
    for _ in range(rounds):
        results["calm"].append(loadgen.measure(server, cell, seconds)["iops"])
        rss.setdefault("calm_kib", memory(server.pid)["Rss"])
        with storm(server, loadgen):
            results["storm"].append(loadgen.measure(server, cell, seconds)["iops"])
            rss["storm_kib"] = memory(server.pid)["Rss"]
    medians = {name: statistics.median(values) for name, values in results.items()}
    kept = medians["storm"] / medians["calm"]
    print(f"{server.name}: 4 sessions keep {kept:.0%} of their throughput with {SILENT} silent "
          f"connections, {SLOW} slow ones and {SESSIONS} more sessions; "
          f"RSS {rss['calm_kib'] / 1024:.1f} MiB before, {rss['storm_kib'] / 1024:.1f} MiB with them")
    return {"kept": kept, "iops": results, **rss}
