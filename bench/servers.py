"""The servers of the comparison: each starts in its `with` block and is gone after it."""

import contextlib
import itertools
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "interop"))
from lund import Lund  # noqa: E402

# With cached disks one I/O thread is tgt's best: up to 1.4 times the IOPS of its default of 16.
TGT_THREADS = 1
# What Debian's defaults cost tgt on large writes is not lund's merit.
TGT_PARAMETERS = {
    "MaxRecvDataSegmentLength": 262144, "MaxXmitDataSegmentLength": 262144,
    "MaxBurstLength": 1048576, "FirstBurstLength": 262144, "MaxOutstandingR2T": 8,
    "InitialR2T": "No", "ImmediateData": "Yes",
    "HeaderDigest": "CRC32C,None", "DataDigest": "CRC32C,None",
}


# Of the tgtds of this process.
COUNT = itertools.count()


class LundServer:
    """lund with its demo disk, in the page cache or past it."""

    name, digests = "lund", True

    def __init__(self, directory, size, direct=False):
        arguments = ["--demo", "--demo-size", f"{size // 2**20}MiB"]
        if direct:
            config = directory / "direct.toml"
            config.write_text("[disks]\ndirect_io = true\n")
            arguments += ["--config", config]
        self.lund = Lund(*arguments, data_dir=directory / "lund")

    def __enter__(self):
        # Whatever goes wrong between its start and the end of this block must not leave it.
        try:
            self.lund.__enter__()
            self.pid, self.url, self.image = self.lund.process.pid, self.lund.url, self.lund.image()
        except BaseException:
            if self.lund.process:
                self.lund.kill()
            raise
        return self

    def __exit__(self, *exception):
        return self.lund.__exit__(*exception)


class TgtServer:
    """tgtd in the foreground on ports of its own, tuned."""

    name, digests = "tgt", True
    iqn = "iqn.2026-01.invalid.bench:tgt"

    def __init__(self, directory, size, threads=TGT_THREADS, direct=False):
        self.image, self.size, self.threads = directory / "tgt.img", size, threads
        # The one of its kinds of disks that goes past the page cache, without threads.
        self.backing = "aio" if direct else "rdwr"
        self.log = directory / "tgt.log"
        self.process = None

    def __enter__(self):
        self._make_image()
        try:
            self._start()
            self._admin("target", "new", targetname=self.iqn)
            for name, value in TGT_PARAMETERS.items():
                self._admin("target", "update", name=name, value=value)
            self._admin("logicalunit", "new", lun=1, bstype=self.backing, backing_store=self.image)
            self._admin("target", "bind", initiator_address="ALL")
        except BaseException:
            self._stop()
            raise
        self.pid = self.process.pid
        self.url = f"iscsi://127.0.0.1:{self.port}/{self.iqn}/1"
        return self

    def __exit__(self, *exception):
        self._stop()

    def _make_image(self):
        with open(self.image, "wb") as image:
            image.truncate(self.size)

    def _start(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # The number of its control socket, at most 32767; ours for as long as we run.
        self.control = str(1 + (os.getpid() + next(COUNT) * 1000) % 32767)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["tgtd", "-f", "-C", self.control, "-t", str(self.threads),
                 "--iscsi", f"portal=127.0.0.1:{self.port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(100):
            if self.process.poll() is not None:
                break
            try:
                # It listens before it answers its control socket.
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                if self._tgtadm("--mode", "system", "--op", "show").returncode == 0:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit(f"tgtd did not start:\n{self.log.read_text(errors='replace')}")

    def _tgtadm(self, *arguments):
        return subprocess.run(["tgtadm", "-C", self.control, "--lld", "iscsi", *arguments],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)

    def _admin(self, mode, operation, **options):
        arguments = ["--mode", mode, "--op", operation, "--tid", "1"]
        for name, value in options.items():
            arguments += ["--" + name.replace("_", "-"), str(value)]
        result = self._tgtadm(*arguments)
        if result.returncode:
            sys.exit(f"tgtadm {' '.join(arguments)}: {result.stderr.strip()}")

    def _stop(self):
        if self.process is None:
            return
        # It does not end on SIGTERM, and leaves its control socket behind in any case.
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            if self.process.poll() is None:
                self._tgtadm("--mode", "target", "--op", "delete", "--force", "--tid", "1")
                self._tgtadm("--mode", "system", "--op", "delete")
                self.process.wait(timeout=5)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for name in (f"socket.{self.control}", f"socket.{self.control}.lock"):
            with contextlib.suppress(OSError):
                (pathlib.Path("/var/run/tgtd") / name).unlink()


class TgtOverQemu(TgtServer):
    """tgtd over a file that is what QEMU's storage daemon sees in an image (FUSE): tgt itself knows
    no formats, and a network block device needs a kernel module."""

    def __init__(self, directory, size, kind):
        super().__init__(directory / kind, size)
        self.name, self.kind, self.daemon = f"tgt over QEMU's {kind}", kind, None

    def _make_image(self):
        self.image.parent.mkdir()
        stored, log = self.image.with_suffix(f".{self.kind}"), self.image.with_suffix(".log")
        subprocess.run(["qemu-img", "create", "-q", "-f", self.kind, stored, str(self.size)], check=True)
        self.image.touch()
        with open(log, "wb") as output:
            self.daemon = subprocess.Popen(
                ["qemu-storage-daemon", "--blockdev",
                 f"driver={self.kind},node-name=image,file.driver=file,file.filename={stored}",
                 "--export", f"fuse,id=export,node-name=image,mountpoint={self.image},writable=on"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        for _ in range(100):
            if self.image.stat().st_size == self.size:
                return
            if self.daemon.poll() is not None:
                break
            time.sleep(0.1)
        self._stop()
        sys.exit(f"qemu-storage-daemon did not start:\n{log.read_text(errors='replace')}")

    def _stop(self):
        super()._stop()
        if self.daemon:
            # It takes the mount away with it.
            self.daemon.terminate()
            self.daemon.wait()


class Yardstick:
    """The least that a target can do, compiled when it is needed."""

    name, digests = "yardstick", False

    def __init__(self, directory, size):
        self.image, self.program, self.size = directory / "yard.img", directory / "yardstick", size
        self.process = None

    def __enter__(self):
        source = pathlib.Path(__file__).with_name("yardstick.c")
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", self.program, source], check=True)
        with open(self.image, "wb") as image:
            image.truncate(self.size)
        self.process = subprocess.Popen([self.program, self.image], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, text=True)
        port = self.process.stdout.readline().strip()
        if not port:
            sys.exit(f"the yardstick did not start (status {self.process.wait()})")
        self.pid = self.process.pid
        self.url = f"iscsi://127.0.0.1:{port}/iqn.2026-01.invalid.bench:yardstick/0"
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()


def why_no_yardstick():
    return None if shutil.which("cc") else "no C compiler"


def why_no_tgt():
    missing = [name for name in ("tgtd", "tgtadm") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    # Its control socket is below /run.
    return "tgtd can be started by root only" if os.geteuid() != 0 else None


def why_no_qemu():
    """Why QEMU cannot stand behind tgt."""
    if why := why_no_tgt():
        return why
    if shutil.which("qemu-storage-daemon") is None or shutil.which("fusermount3") is None:
        return "qemu-storage-daemon or fusermount3 not installed"
    return None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "no /dev/fuse"
