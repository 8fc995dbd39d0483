"""A small emulated machine with the kernel of the initiator machine, in which lund runs on the disk
that loses power. It boots once: its memory of the moment before it first looks at a disk is kept, and
each start goes on from there."""

import contextlib
import gzip
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "crc32c_generic", "ext4", "xfs"]
ISCSI, MANAGEMENT, SHELL = 3260, 5989, 5999
OUT_BYTES = 1 << 30
INIT = """#!/bin/busybox sh
export PATH=/bin
mount() { /bin/busybox mount "$@"; }
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp
for module in $(cat /order); do insmod /modules/$module; done
ip link set lo up; ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
tries=0
while [ ! -b /dev/vdb ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
# Nothing of a disk is remembered: the machine goes on with another one.
blockdev --flushbufs /dev/vda
# Management is for loopback addresses alone, and the machine's is another one than the host's.
nc -ll -p 5989 -e /bin/nc 127.0.0.1 5988 &
nc -ll -p 5999 -e /bin/sh &
echo UP
while :; do sleep 1000; done
"""


def output(*words, **more):
    return subprocess.run([*map(str, words)], check=True, stdout=subprocess.PIPE, **more).stdout


def build(initiator_vm, folder, programs):
    """Makes `folder`/initrd of the initiator machine's files and of `programs`."""
    cache = pathlib.Path(os.environ.get("INITIATOR_VM_CACHE") or pathlib.Path(
        os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache", "initiator-vm"))
    subprocess.run([initiator_vm / "build", cache], check=True)
    root = folder / "root"
    for name in ("bin", "dev", "proc", "sys", "tmp", "disk", "modules"):
        (root / name).mkdir(parents=True)
    copy_modules(cache / "root.img", root)
    for program in programs:
        subprocess.run(["strip", "-o", root / "bin" / program.name, program], check=True)
        for library in re.findall(r"(/\S+)", output("ldd", program, text=True)):
            inside = root / library.lstrip("/")
            inside.parent.mkdir(parents=True, exist_ok=True)
            if not inside.exists():
                shutil.copy(library, inside)
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    ours = output("cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", cwd=root, input=names.encode())
    # busybox is there; what comes later takes the place of what came first.
    theirs = gzip.decompress((cache / "initrd").read_bytes())
    (folder / "initrd").write_bytes(theirs + ours)
    shutil.copy(cache / "vmlinuz", folder / "vmlinuz")
    shutil.rmtree(root)


def copy_modules(image, root):
    """The modules that it needs, and the order in which they are loaded."""
    def debugfs(command):
        return output("debugfs", "-R", command, image, stderr=subprocess.DEVNULL, text=True)

    version = re.search(r"\s(\d+\.\d+\S*)\s", debugfs("ls /usr/lib/modules")).group(1)
    base = f"/usr/lib/modules/{version}"
    needs = {}
    for line in debugfs(f"cat {base}/modules.dep").splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    by_name = {pathlib.PurePath(path).stem.replace("-", "_"): path for path in needs}
    order = []

    def add(path):
        for other in reversed(needs[path]):
            add(other)
        if path not in order:
            order.append(path)

    for module in MODULES:
        add(by_name[module])
    for path in order:
        debugfs(f"dump {base}/{path} {root}/modules/{pathlib.PurePath(path).name}")
    (root / "order").write_text("\n".join(pathlib.PurePath(path).name for path in order) + "\n")


class Machine:
    """A running machine; `kill` takes its power away."""

    def __init__(self, folder, disk, kept=True):
        """With the disk at the socket `disk`; boots, unless its memory was `kept`."""
        self.folder = folder
        self.ports = {guest: free_port() for guest in (ISCSI, MANAGEMENT, SHELL)}
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{here}-10.0.2.15:{guest}"
                           for guest, here in self.ports.items())
        self.log = folder / "console"
        self.log.write_bytes(b"")
        (folder / "out").touch()
        os.truncate(folder / "out", OUT_BYTES)
        (folder / "monitor").unlink(missing_ok=True)
        accelerator = os.environ.get("INITIATOR_VM_ACCEL", "tcg")
        self.process = subprocess.Popen(
            # It ends with whoever started it, however that ends.
            ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config",
             "-machine", "pc", "-no-reboot",
             "-accel", accelerator, "-cpu", "host" if accelerator == "kvm" else "max",
             "-m", "640", "-display", "none", "-kernel", folder / "vmlinuz", "-initrd", folder / "initrd",
             "-append", "console=ttyS0,115200 loglevel=4 panic=-1 acpi=noirq net.ifnames=0 mitigations=off "
                        "audit=0 no_timer_check tsc=nowatchdog",
             "-chardev", f"file,id=console,path={self.log}", "-serial", "chardev:console",
             "-qmp", f"unix:{folder}/monitor,server=on,wait=off",
             "-blockdev", f"driver=nbd,node-name=disk,server.type=unix,server.path={disk}",
             # The guest is told that there is a volatile cache.
             "-device", "virtio-blk-pci,drive=disk,write-cache=on",
             # Where it leaves what the host is to have.
             "-blockdev", f"driver=file,node-name=out,filename={folder}/out", "-device", "virtio-blk-pci,drive=out",
             "-netdev", f"user,id=net,ipv6=off{forwards}",
             "-device", "virtio-net-pci,netdev=net,romfile=",
             "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
             *(["-incoming", f"exec:cat {folder}/memory"] if kept else [])],
            stdin=subprocess.DEVNULL)
        try:
            self.start(kept)
        except BaseException:
            self.kill()
            raise

    def start(self, kept):
        if kept:
            # A connection that comes earlier waits for seconds.
            with self.monitor() as ask:
                while ask("query-status")["status"] != "running":
                    time.sleep(0.02)
        else:
            self.wait_for("UP")
        self.shell(f"date -s @{int(time.time())}")

    @contextlib.contextmanager
    def monitor(self):
        """QEMU's monitor: a function that has it do something."""
        with socket.socket(socket.AF_UNIX) as monitor:
            self.until(lambda: monitor.connect_ex(str(self.folder / "monitor")) == 0, "its monitor")
            lines = monitor.makefile("rw")

            def ask(command, **arguments):
                lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
                lines.flush()
                while "return" not in (answer := json.loads(lines.readline())):
                    if "error" in answer:
                        raise RuntimeError(answer)
                return answer["return"]

            ask("qmp_capabilities")
            yield ask

    def keep(self):
        """Keeps its memory for those that start later, and ends it."""
        with self.monitor() as ask:
            ask("migrate-set-parameters", **{"max-bandwidth": 1 << 32})
            ask("migrate", uri=f"exec:cat > {self.folder}/memory")
            while (status := ask("query-migrate").get("status")) != "completed":
                if status == "failed":
                    raise RuntimeError("the machine's memory cannot be kept")
                time.sleep(0.05)
        self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def console(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, text):
        """Until the console shows it."""
        self.until(lambda: text in self.console(), text)

    def until(self, condition, what, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no {what}; the machine says:\n{self.console()[-6000:]}")
            time.sleep(0.02)

    def shell(self, command):
        """Runs it in the machine; what it prints."""
        end = time.monotonic() + 60
        while True:
            try:
                return self._shell(command)
            except OSError:
                # Nobody listens yet.
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def fetch(self, folder, names):
        """A tar archive of what lies in a folder of its file system; the file with it."""
        self.shell(f"tar c -C {folder} {names} | dd of=/dev/vdb bs=1M conv=fsync 2>/dev/null")
        return self.folder / "out"

    def _shell(self, command):
        with socket.create_connection(("127.0.0.1", self.ports[SHELL]), timeout=60) as connection:
            connection.sendall(f"{command}\nexit\n".encode())
            connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(1 << 16):
                parts.append(part)
        return b"".join(parts)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
