#!/usr/bin/env python3
"""The Debian package: built, judged by systemd, installed into a clean root, used, upgraded, purged.

Needs root, debootstrap, dpkg-deb, systemd-analyze and cargo-deb."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
UNIT = "/lib/systemd/system/lund.service"
# Of systemd-analyze security; the scale ends at 10.
MOST_EXPOSED = 2.5
TARGET_NAME = "iqn.2026-01.io.lund:www"
# For so many seconds open-iscsi lets commands wait for a session unless it is configured otherwise
# (node.session.timeo.replacement_timeout).
PATIENCE = 120


def say(text):
    print(f"package: {text}", flush=True)


def output(*command, **options):
    """What a command prints, on both streams; a failure ends the test."""
    result = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}: status {result.returncode}\n{result.stdout}")
    return result.stdout


def check(is_so, what):
    if not is_so:
        sys.exit(f"package: not so: {what}")


def build(version, directory):
    """A package of this version."""
    package = pathlib.Path(directory, f"lund_{version}.deb")
    output("packaging/build", "--deb-version", version, "--output", package, cwd=PROJECT)
    return package


def clean_root(directory):
    """A minimal Debian; kept as an archive, which is made again after a week."""
    archive = TARGET / "package-root.tar"
    if not archive.exists() or time.time() - archive.stat().st_mtime > 7 * 86400:
        codename = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(), re.M)[1]
        sites = output("apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(COMPONENT)",
                       "Created-By: Packages").splitlines()
        site = next(line.split()[0] for line in sites if line.split()[1:] == [codename, "main"])
        output("debootstrap", "--variant=minbase", "--include=systemd", codename, directory, site)
        output("tar", "-C", directory, "-cf", archive, ".")
    else:
        output("tar", "-C", directory, "-xf", archive)
    return Root(directory)


class Root:
    """A root file system of its own; network and processes are the host's."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        # Users other than root live in it.
        self.directory.chmod(0o755)

    def path(self, inside):
        return self.directory / str(inside).lstrip("/")

    def output(self, *command):
        return output("chroot", self.directory, *command,
                      env={"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive"})

    def install(self, package):
        shutil.copy(package, self.path("/tmp"))
        return self.output("dpkg", "-i", f"/tmp/{package.name}")

    def owner(self, inside):
        user = next(line.split(":") for line in self.path("/etc/passwd").read_text().splitlines()
                    if line.startswith("lund:"))
        return self.path(inside).stat().st_uid == int(user[2])

    @contextlib.contextmanager
    def daemon(self, iscsi=0, management=0):
        """Runs it as the unit does, on free ports unless some are given; yields its addresses and its
        notifications."""
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notifications:
            name = "/tmp/notify"
            self.path(name).unlink(missing_ok=True)
            notifications.bind(str(self.path(name)))
            self.path(name).chmod(0o777)
            notifications.settimeout(60)
            process = subprocess.Popen(
                ["chroot", "--userspec=lund:lund", self.directory, "/usr/bin/lund", "serve", "--config",
                 "/etc/lund/lund.toml", "--iscsi-listen", f"127.0.0.1:{iscsi}", "--mgmt-listen", f"127.0.0.1:{management}"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                env={"PATH": PATH, "NOTIFY_SOCKET": name, "WATCHDOG_USEC": "600000"})
            try:
                seen = told(notifications, "READY=1")
                check(any("STATUS=Serving initiators on 127.0.0.1:" in it for it in seen), seen)
                portal = process.stdout.readline().strip()
                server = process.stdout.readline().strip().removesuffix("/cimom")
                yield portal, server, notifications
                process.send_signal(signal.SIGTERM)
                told(notifications, "STOPPING=1")
                check(process.wait(timeout=60) == 0, "the daemon ends with status 0")
            finally:
                process.kill()
                process.wait()

    def lunctl(self, server, *words):
        return self.output("/usr/bin/lunctl", "--server", server, *words)


class Writer:
    """An initiator of one session that writes block after block, each with a byte of its own, and takes every
    error for the end."""

    BLOCK, BLOCKS = 4096, 1024

    def __init__(self, portal, target, lun=0):
        image = {"driver": "raw", "file": {"driver": "iscsi", "transport": "tcp", "target": target, "lun": lun,
                                           "portal": portal.removeprefix("iscsi://").rstrip("/")}}
        self.process = subprocess.Popen(["qemu-io", "json:" + json.dumps(image)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
        self.done, self.longest, self.error = 0, 0.0, None
        self.stopped, self.moved = threading.Event(), threading.Condition()
        self.thread = threading.Thread(target=self.write, daemon=True)
        self.thread.start()

    @staticmethod
    def byte(number):
        return number % 255 + 1

    def ask(self, command, answer):
        """The line that answers a command."""
        self.process.stdin.write(command + "\n")
        for line in self.process.stdout:
            if answer in line:
                return
            if "failed" in line or "rror" in line:
                raise OSError(line.strip())
        raise OSError("qemu-io has ended")

    def write(self):
        try:
            while not self.stopped.is_set():
                begin = time.monotonic()
                at = self.done % self.BLOCKS * self.BLOCK
                self.ask(f"write -P {self.byte(self.done)} {at} {self.BLOCK}", f"wrote {self.BLOCK}/{self.BLOCK}")
                self.longest = max(self.longest, time.monotonic() - begin)
                with self.moved:
                    self.done += 1
                    self.moved.notify_all()
        except OSError as error:
            self.error = error
            with self.moved:
                self.moved.notify_all()

    def goes_on(self):
        """Waits for some more writes."""
        with self.moved:
            wanted = self.done + 100
            self.moved.wait_for(lambda: self.error or self.done >= wanted, timeout=120)
            check(self.error is None and self.done >= wanted, f"initiators write on: {self.error}")

    def end(self):
        """Everything that was answered is there."""
        self.stopped.set()
        self.thread.join(timeout=120)
        check(self.error is None and not self.thread.is_alive(), f"initiators write on: {self.error}")
        first = max(0, self.done - self.BLOCKS)
        for number in range(first, self.done):
            self.ask(f"read -P {self.byte(number)} {number % self.BLOCKS * self.BLOCK} {self.BLOCK}",
                     f"read {self.BLOCK}/{self.BLOCK}")
        self.process.communicate("quit\n", timeout=60)


def upgraded(root, package):
    """A package is put in the place of another one while an initiator writes, and its daemon restarted, as the
    package's scripts have systemd do. The initiator sees a pause, no error; what it was told is written is."""
    iscsi, management = free_ports(2)
    with root.daemon(iscsi, management) as (portal, server, _):
        writer = Writer(portal, TARGET_NAME)
        writer.goes_on()
        root.install(package)
        # Nothing is stopped by the installation itself.
        writer.goes_on()
        before = root.lunctl(server, "export")
    with root.daemon(iscsi, management) as (_, server, _):
        writer.goes_on()
        check(root.lunctl(server, "export") == before, "the upgrade keeps what is configured")
        sessions = root.lunctl(server, "session", "list")
        check(sessions.count(TARGET_NAME) == 1, f"the initiator has its session: {sessions}")
        writer.end()
    check(writer.longest < PATIENCE, f"a write waited for {writer.longest:.1f} s")
    say(f"upgraded under an initiator that wrote {writer.done} blocks: the longest waited {writer.longest:.1f} s")


def told(notifications, wanted):
    """Reads until it has been told; everything that was."""
    seen = []
    while not any(wanted in text.splitlines() for text in seen):
        seen.append(notifications.recv(4096).decode())
    return seen


def judged(root):
    """By systemd itself, in the root where the package is installed."""
    complaints = root.output("systemd-analyze", "verify", "--man=no", UNIT)
    check(complaints == "", f"systemd-analyze verify is silent: {complaints}")
    table = output("systemd-analyze", "security", "--offline=true", "--no-pager", root.path(UNIT))
    score = float(re.search(r"Overall exposure level for lund.service: ([\d.]+)", table)[1])
    check(score <= MOST_EXPOSED, f"an exposure of {score} at most {MOST_EXPOSED}")
    say(f"systemd-analyze verify is silent, the exposure is {score}")


def free_ports(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(contextlib.closing(socket.socket())) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def activation(bound, iscsi, management):
    """The daemon behind sockets that systemd has bound; it starts with the first connection."""
    listen = [word for port in bound for word in ("-l", f"127.0.0.1:{port}")]
    with tempfile.TemporaryDirectory() as directory, open(pathlib.Path(directory, "log"), "w+") as log:
        process = subprocess.Popen(
            ["systemd-socket-activate", *listen, TARGET / "release" / "lund", "serve", "--data-dir", directory,
             "--iscsi-listen", f"127.0.0.1:{iscsi}", "--mgmt-listen", f"127.0.0.1:{management}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        try:
            yield process, pathlib.Path(log.name)
        finally:
            process.kill()
            process.wait()


def until(attempt, process, what):
    """Asks until it works; systemd needs a moment to bind."""
    deadline = time.monotonic() + 60
    while not attempt():
        check(time.monotonic() < deadline and process.poll() is None, what)


def activated():
    iscsi, management = free_ports(2)
    with activation((iscsi, management), iscsi, management) as (process, _):
        def discovered():
            # An empty list, but an answer.
            return subprocess.run(["iscsi-ls", f"iscsi://127.0.0.1:{iscsi}"], stdin=subprocess.DEVNULL,
                                  capture_output=True, timeout=60).returncode == 0
        until(discovered, process, "an initiator starts the daemon")
        status = output(TARGET / "release" / "lunctl", "--server", f"http://127.0.0.1:{management}", "status")
        check(f"127.0.0.1:{iscsi}" in status, status)
        process.terminate()
        check(process.wait(timeout=60) == 0, "the activated daemon ends with status 0")
    say("started by an initiator's connection, on sockets that systemd bound")
    iscsi, management, other = free_ports(3)
    with activation((iscsi, other), iscsi, management) as (process, log):
        def connected():
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", iscsi), timeout=10).close()
                return True
        until(connected, process, "systemd binds the sockets")
        check(process.wait(timeout=60) == 1, "a socket that nobody serves stops the start")
        check(f"127.0.0.1:{other}" in log.read_text(), f"and is named: {log.read_text()}")
    say("a socket that nobody would serve is refused")


def main():
    with (tempfile.TemporaryDirectory(prefix="lund-root-") as directory,
          tempfile.TemporaryDirectory() as packages):
        first, second = build("0.1.0-1", packages), build("0.1.0-2", packages)
        root = clean_root(directory)
        root.install(first)
        judged(root)
        check(root.path("/etc/systemd/system/multi-user.target.wants/lund.service").is_symlink(), "enabled")
        check(root.owner("/var/lib/lund"), "/var/lib/lund belongs to lund")
        for page in ("lund", "lunctl", "lunctl-disk-create"):
            check(root.path(f"/usr/share/man/man1/{page}.1.gz").exists(), f"a manual page of {page}")
        with root.daemon() as (portal, server, notifications):
            root.lunctl(server, "disk", "create", "first", "--size", "16MiB")
            root.lunctl(server, "target", "create", "www")
            root.lunctl(server, "target", "map", "www", "first")
            luns = output("iscsi-ls", "-s", portal)
            check("Lun:0" in luns, f"an initiator sees the disk: {luns}")
            told(notifications, "WATCHDOG=1")
        say("installed in a clean root, its daemon serves a disk as the user lund")
        # What an administrator changed is kept, and so are the disks.
        config = root.path("/etc/lund/lund.toml")
        config.write_text(config.read_text() + "\n[jobs]\nmax_running = 2\n")
        upgraded(root, second)
        check("max_running = 2" in config.read_text(), "the upgrade keeps the configuration")
        with root.daemon() as (portal, server, _):
            check("first" in root.lunctl(server, "disk", "list"), "the upgrade keeps the disks")
            check("Lun:0" in output("iscsi-ls", "-s", portal), "and serves them")
        root.output("dpkg", "--purge", "lund")
        check(not root.path("/usr/bin/lund").exists() and not config.exists(), "a purge removes the program")
        check(any(root.path("/var/lib/lund/disks").iterdir()), "a purge leaves the disks")
        say("upgraded with configuration and disks, purged without the disks")
    activated()
    return 0


if __name__ == "__main__":
    sys.exit(main())
