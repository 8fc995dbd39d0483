#!/usr/bin/env python3
"""lund registers with Debian's isnsd, and an initiator finds its targets there with isnsadm."""

import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lund import Lund, binary  # noqa: E402

PATIENCE = 60
INITIATOR = "iqn.2026-01.org.example:initiator"


def say(text):
    print(f"isns: {text}", flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def eventually(what, look):
    end = time.monotonic() + PATIENCE
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {PATIENCE} s")
        time.sleep(0.1)


class Isnsd:
    """A server that keeps everything in memory."""

    def __init__(self, directory, port):
        self.directory, self.port = directory, port
        self.config = directory / "isnsd.conf"
        self.config.write_text(f"""SourceName = iqn.2026-01.org.example:isns
BindAddress = 127.0.0.1:{port}
ControlSocket = {directory}/control
PIDFile = {directory}/pid
RegistrationPeriod = 10m
DefaultDiscoveryDomain = 1
SLPRegister = 0
Security = 0
SCNTimeout = 5
""")
        self.client = directory / "isnsadm.conf"
        self.client.write_text(f"SourceName = {INITIATOR}\nServerAddress = 127.0.0.1:{port}\nSecurity = 0\n")

    def start(self):
        with open(self.directory / "isnsd.log", "ab") as log:
            self.process = subprocess.Popen(["isnsd", "--config", self.config, "--foreground", "--debug", "all"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually("isnsd listens", self.listens)

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=PATIENCE)

    def admin(self, *words):
        done = subprocess.run(["isnsadm", "--config", self.client, *words], capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def targets(self):
        """Names of the targets that the initiator sees."""
        listed = self.admin("--list", "nodes")
        found = re.findall(r'iSCSI name = "([^"]+)"\n\s+\w+\s+uint32\s+: iSCSI node type = Target', listed)
        return sorted(found)


def state(lund):
    lunctl = [binary("lunctl"), "--server", lund.server, "--json", "status"]
    status = json.loads(subprocess.run(lunctl, capture_output=True, text=True, check=True, timeout=60).stdout)
    return status["isns"]["state"]


def lunctl(lund, *words):
    done = subprocess.run([binary("lunctl"), "--server", lund.server, *words], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        sys.exit(f"lunctl {' '.join(words)}: {done.stderr}")


def registration(server, lund):
    demo, db = lund.iqn, "iqn.2026-01.io.lund:db"
    assert "not registered: no connection" in eventually("a state", lambda: state(lund)), state(lund)
    say("without a server the daemon serves, and says that it is not registered")
    server.start()
    eventually("the registration", lambda: state(lund) == "1 targets registered")
    assert "Success" in server.admin("--register", f"initiator={INITIATOR}")
    assert server.targets() == [demo], server.targets()
    portals = server.admin("--list", "portals")
    for portal in lund.portals:
        address, port = portal.rsplit(":", 1)
        assert re.search(rf"{re.escape(address)}\n.*{port}/tcp", portals), (portal, portals)
    say("an initiator finds the target and its portals")

    lunctl(lund, "target", "create", "db", "--alias", "the database")
    eventually("the new target", lambda: server.targets() == sorted([demo, db]))
    assert "the database" in server.admin("--list", "nodes")
    lunctl(lund, "target", "delete", "db")
    eventually("the target is gone", lambda: server.targets() == [demo])
    say("targets come and go as the catalogue changes")

    # The initiator that came is told to us, as to everybody in its discovery domain.
    eventually("the notification", lambda: "state change notification" in lund.log.read_text())
    assert INITIATOR in lund.log.read_text()
    say("state change notifications come")

    server.stop()
    eventually("the loss", lambda: state(lund).startswith("not registered"))
    server.start()
    eventually("the registration", lambda: state(lund) == "1 targets registered")
    assert "Success" in server.admin("--register", f"initiator={INITIATOR}")
    assert server.targets() == [demo], server.targets()
    say("a server that was restarted and has forgotten everything is told again")


def main():
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary)
        server = Isnsd(directory, free_port())
        config = directory / "lund.toml"
        config.write_text(f"""[isns]
server = "127.0.0.1:{server.port}"
entity = "storage1"

[[iscsi.portal_groups]]
tag = 2
listen = ["127.0.0.2:0"]
""")
        try:
            with Lund("--demo", "--demo-size", "16MiB", "--config", str(config)) as lund:
                registration(server, lund)
            assert server.targets() == [], server.targets()
            say("a daemon that stops takes its registration back")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
