"""The daemon under test: started on free loopback ports with a data directory of its own,
stopped by whoever started it."""

import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]


def binary(name):
    """Path of a built program; LUND_BIN_DIR says where they are."""
    directory = pathlib.Path(os.environ.get("LUND_BIN_DIR", ROOT / "target" / "release"))
    path = directory / name
    if not path.exists():
        sys.exit(f"{path} is not there: build it, or set LUND_BIN_DIR")
    return path


class Lund:
    """`with Lund("--demo") as lund:` serves until the block ends; then it must drain and exit 0."""

    def __init__(self, *arguments, data_dir=None, start_timeout=60):
        self.arguments = arguments
        self.own_dir = data_dir is None
        self.data_dir = pathlib.Path(data_dir or tempfile.mkdtemp(prefix="lund-test-"))
        self.start_timeout = start_timeout
        self.process = None
        self.again = False

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        status = self.stop()
        if self.own_dir:
            shutil.rmtree(self.data_dir, ignore_errors=True)
        if kind is None and status != 0:
            self._show_log()
            sys.exit(f"lund exited with {status} after SIGTERM, not with 0")

    def listen(self):
        """Free ports, or those of a daemon that is started again."""
        words = ["--iscsi-listen", "127.0.0.1:0", "--mgmt-listen", "127.0.0.1:0", *map(str, self.arguments)]
        if not self.again:
            return words
        kept = []
        while words:
            word = words.pop(0)
            if word in ("--iscsi-listen", "--mgmt-listen"):
                words.pop(0)
            else:
                kept.append(word)
        for portal in self.portals:
            kept += ["--iscsi-listen", portal]
        return kept + ["--mgmt-listen", self.server.removeprefix("http://")]

    def restart(self):
        """Stops it as an operator would, and starts it again at the same addresses."""
        status = self.stop()
        if status != 0:
            sys.exit(f"lund exited with {status} after SIGTERM, not with 0")
        self.again = True
        self.start()

    def start(self):
        """Starts it and waits for its addresses on standard output."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.log = self.data_dir.parent / (self.data_dir.name + ".log")
        words = self.listen()
        if "--config" not in words:
            # The file system of this machine may be nearly full: not of interest, unless a test says so.
            quiet = self.data_dir / "quiet.toml"
            quiet.write_text("[disks]\nthresholds = []\n")
            words += ["--config", quiet]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [binary("lund"), "serve", "--data-dir", self.data_dir / "data", *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        lines = queue.Queue()

        def pump(stream):
            for line in stream:
                lines.put(line.strip())
            lines.put(None)

        threading.Thread(target=pump, args=(self.process.stdout,), daemon=True).start()
        self.portal = self.cimom = self.url = self.secure = None
        self.portals = []
        while not (self.portal and self.cimom and (self.url or "--demo" not in self.arguments)):
            try:
                line = lines.get(timeout=self.start_timeout)
            except queue.Empty:
                line = None
            if line is None:
                self.kill()
                self._show_log()
                sys.exit("lund did not print its addresses")
            if line.startswith("iscsi://"):
                if "/" in line.removeprefix("iscsi://"):
                    self.url = line
                else:
                    self.portals.append(line.removeprefix("iscsi://"))
                    self.portal = self.portals[0]
            elif line.startswith("https://"):
                self.secure = line.removesuffix("/cimom")
            elif line.startswith("http://"):
                self.cimom = line
        self.server = self.cimom.removesuffix("/cimom")

    @property
    def iqn(self):
        """The demo target's name."""
        return self.url.removeprefix("iscsi://").split("/")[1]

    def image(self):
        """The demo disk's file."""
        files = [f for f in (self.data_dir / "data").rglob("*.raw")]
        if len(files) != 1:
            sys.exit(f"expected one disk image below {self.data_dir}, found {files}")
        return files[0]

    def stop(self):
        """SIGTERM; its exit status, which must come within a minute."""
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            return "a kill: it did not drain within 60 s"

    def kill(self):
        """SIGKILL, as a crash would have it."""
        self.process.kill()
        self.process.wait()

    def _show_log(self):
        sys.stderr.write(self.log.read_text(errors="replace")[-4000:])
