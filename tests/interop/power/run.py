#!/usr/bin/env python3
"""lund in an emulated machine that loses its power: random writes, flushes, unmaps and jobs against a
model, until QEMU is killed and its disk forgets what it will of what was not flushed. Then the machine
starts again, and everything that was promised must be there.

    run.py MACHINE [SEED]      MACHINE: the folder with the initiator machine's `build`

LUND_POWER_LOSSES: how often, on each file system (3). LUND_POWER_SYSTEMS: "ext4 xfs".
LUND_POWER_STORY: prints what was done. LUND_POWER_KEEP: where the disk goes if something is wrong."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import initiator  # noqa: E402
from disk import Disk  # noqa: E402
from lund import binary  # noqa: E402
from machine import ISCSI, MANAGEMENT, Machine, build  # noqa: E402
from model import RUN, Held, content, stamps  # noqa: E402

FORMATS = ["raw", "qcow2", "vhdx"]
TARGET = "iqn.2026-01.io.lund:t"
MIB_BLOCKS = (1 << 20) // 512
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
        "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"]}
DISK_BYTES = 512 << 20
# What is not possible everywhere, and said so.
REFUSALS = ["ISCT-STG-014", "cannot share blocks", "images that are laid over it"]
# Clusters that were taken when the power went are lost until a repair: no data is.
LEAKS = "that nothing in it uses"
CLONE_LUN = 20


class Wrong(Exception):
    """Something that was promised does not hold."""


class Volume:
    """One disk, what it may hold, and what is done with it."""

    def __init__(self, world, format, lun):
        self.world, self.format, self.lun, self.name = world, format, lun, format
        self.chance = random.Random(world.chance.random())
        self.held = Held(4 * MIB_BLOCKS)
        self.lock = threading.Lock()
        self.snapshots = {}
        # Snapshots and clones that are being made see what is written meanwhile, or not.
        self.windows = []
        self.pending = None
        self.clone = None
        self.made = 0

    def note(self, text):
        self.world.note(f"{self.name}: {text}")

    # What initiators do.

    def writer(self, stop):
        try:
            session = self.world.session(self.lun)
        except initiator.Lost as lost:
            self.note(f"no session: {lost}")
            return
        try:
            while not stop.is_set():
                with self.lock:
                    self.command(session)
        except initiator.Lost:
            pass
        except Exception as error:  # noqa: BLE001, told by the main thread
            self.world.failed(f"{self.name}: {error}")
        finally:
            session.close()

    def command(self, session):
        kind = self.chance.randrange(20)
        if kind < 3:
            session.flush()
            self.held.flushed()
            return
        runs = len(self.held.blocks) // RUN
        first = self.chance.randrange(runs)
        count = min(1 + self.chance.choice([0, 0, 1, 3, 15, 31]), runs - first)
        lba, blocks = first * RUN, count * RUN
        stamp = 0 if kind < 6 else self.world.stamp()
        durable = kind == 19
        for held in [self.held, *self.windows]:
            held.put(lba, blocks, stamp)
        if stamp:
            session.write(lba, b"".join(content(stamp, lba + at) for at in range(blocks)), durable)
        else:
            session.unmap(lba, blocks)
        if durable:
            self.held.settle(range(lba, lba + blocks))

    # What management does.

    def worker(self, stop):
        try:
            while not stop.is_set():
                self.job(stop)
                time.sleep(self.chance.random() * 0.3)
        except Exception as error:  # noqa: BLE001
            if not stop.is_set():
                self.world.failed(f"{self.name}: {error}")

    def job(self, stop):
        kind = self.chance.choice(["snapshot", "snapshot", "rollback", "delete", "delete", "clone", "expand"])
        names = sorted(self.snapshots)
        if kind in ("rollback", "delete") and not names or kind == "snapshot" and len(names) > 4:
            return
        if kind == "snapshot":
            self.made += 1
            name = f"s{self.made}"
            self.copied(stop, "snapshot", name, ["snapshot", "create", name, self.name])
        elif kind == "clone":
            if self.clone:
                return
            self.made += 1
            name = f"{self.name}-c{self.made}"
            self.copied(stop, "clone", name, ["disk", "clone", self.name, name])
        elif kind == "delete":
            name = self.chance.choice(names)
            self.pending = ("delete", name)
            if self.run(stop, ["snapshot", "delete", f"{self.name}@{name}"]):
                del self.snapshots[name]
            self.pending = None
        elif kind == "rollback":
            name = self.chance.choice(names)
            with self.lock:
                self.pending = ("rollback", name)
                done = self.run(stop, ["snapshot", "rollback", f"{self.name}@{name}"])
                if done:
                    self.held = self.snapshots[name].copy()
                self.pending = None
                if done:
                    # What was written while the snapshot was taken may be in it or not.
                    found = self.world.read(self.lun, len(self.held.blocks))
                    if wrong := self.held.wrong(found):
                        raise Wrong(f"rolled back to {name}: {wrong}")
                    self.held.now_holds(found)
        elif kind == "expand":
            size = len(self.held.blocks) // MIB_BLOCKS + 1
            if size > 8:
                return
            self.pending = ("expand", size * MIB_BLOCKS)
            if self.run(stop, ["disk", "expand", self.name, "--size", f"{size}MiB"]):
                with self.lock:
                    self.held.resize(size * MIB_BLOCKS)
            self.pending = None

    def copied(self, stop, kind, name, words):
        """A copy as at one instant between now and when the job has ended."""
        with self.lock:
            window = self.held.fork()
            self.windows.append(window)
        self.pending = (kind, name, window)
        done = self.run(stop, words)
        with self.lock:
            self.windows.remove(window)
        if done:
            self.keep(kind, name, window)
        self.pending = None

    def keep(self, kind, name, window):
        if kind == "snapshot":
            self.snapshots[name] = window
        else:
            self.clone = (name, window)

    def run(self, stop, words):
        """Whether the job was completed. A loss of power is an exception: what was pending stays so."""
        self.note(" ".join(words))
        submitted = self.world.lunctl_result([*words, "--no-wait"])
        if submitted.returncode != 0:
            if stop.is_set() or submitted.returncode == 7:
                raise initiator.Lost
            if not any(text in submitted.stderr for text in REFUSALS):
                raise Wrong(f"{words}: {submitted.stderr}")
            return False
        job = submitted.stdout.strip()
        self.world.promised(job, words)
        ended = self.world.lunctl_result(["job", "wait", job])
        if ended.returncode == 0:
            return True
        if stop.is_set() or ended.returncode == 7:
            raise initiator.Lost
        if not any(text in ended.stderr for text in REFUSALS):
            raise Wrong(f"{words}: {ended.stderr}")
        return False

    # What must hold after a loss.

    def recover(self, disks, snapshots):
        """Finds out how what was pending has ended, and compares."""
        if self.pending:
            kind, what, *window = self.pending
            if kind == "snapshot" and what in snapshots or kind == "clone" and what in disks:
                self.keep(kind, what, window[0])
            elif kind == "delete" and what not in snapshots:
                del self.snapshots[what]
            elif kind == "expand" and disks[self.name]["size_bytes"] == what * 512:
                self.held.resize(what)
        if sorted(self.snapshots) != sorted(snapshots):
            raise Wrong(f"{self.name}: snapshots {sorted(snapshots)}, not {sorted(self.snapshots)}")
        found = self.world.read(self.lun, disks[self.name]["size_bytes"] // 512)
        wrong = self.held.wrong(found)
        if self.pending and self.pending[0] == "rollback" and wrong:
            other = self.snapshots[self.pending[1]].wrong(found)
            wrong = wrong + ["or:"] + other if other else []
        if wrong:
            raise Wrong(f"{self.name}, pending {self.pending}: {wrong}")
        self.held.resize(len(found))
        self.held.now_holds(found)
        self.pending, self.windows = None, []
        if self.clone:
            (name, window), self.clone = self.clone, None
            self.compare(name, window)
        if self.snapshots:
            name = self.chance.choice(sorted(self.snapshots))
            shown = f"{self.name}-shown"
            self.world.lunctl("snapshot", "expose", f"{self.name}@{name}", shown)
            self.compare(shown, self.snapshots[name])
        check = self.world.lunctl_result(["disk", "check", self.name])
        if check.returncode != 0 and not any(text in check.stderr for text in [LEAKS, *REFUSALS]):
            raise Wrong(f"{self.name}: {check.stderr}")

    def compare(self, name, held):
        """A disk that is a copy; what it holds it holds from now on, and it goes."""
        self.world.lunctl("target", "map", "t", name, "--lun", str(CLONE_LUN))
        found = self.world.read(CLONE_LUN, len(held.blocks))
        if wrong := held.wrong(found):
            raise Wrong(f"{name}: {wrong}")
        held.now_holds(found)
        self.world.lunctl("target", "unmap", "t", str(CLONE_LUN))
        self.world.lunctl("disk", "delete", name)


class World:
    """One file system, on which lund lives through losses of power."""

    def __init__(self, folder, file_system, seed):
        self.folder, self.file_system = folder, file_system
        self.chance = random.Random(f"{file_system} {seed}")
        self.library = initiator.load()
        image = folder / f"{file_system}.img"
        image.touch()
        os.truncate(image, DISK_BYTES)
        subprocess.run([*MAKE[file_system], image], check=True)
        self.disk = Disk(image, folder / f"{file_system}.socket", random.Random(self.chance.random()))
        self.machine = None
        self.stamps = 0
        self.lock = threading.Lock()
        self.jobs = {}
        self.story, self.failures = [], []
        self.volumes = [Volume(self, format, lun) for lun, format in enumerate(FORMATS)]
        self.begin = time.monotonic()

    def note(self, text):
        with self.lock:
            self.story.append(f"{time.monotonic() - self.begin:8.2f} {text}")

    def failed(self, text):
        self.note(f"FAILED: {text}")
        self.failures.append(text)

    def stamp(self):
        with self.lock:
            self.stamps += 1
            return self.stamps

    def promised(self, job, words):
        self.note(f"  is {job}")
        with self.lock:
            self.jobs[job] = " ".join(words)

    def lunctl_result(self, words):
        server = f"http://127.0.0.1:{self.machine.ports[MANAGEMENT]}"
        try:
            return subprocess.run([binary("lunctl"), "--server", server, *words], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(words, 7, "", "no answer")

    def lunctl(self, *words):
        done = self.lunctl_result(list(words))
        if done.returncode != 0:
            raise Wrong(f"{' '.join(words)}: {done.returncode}: {done.stderr}")
        return done.stdout

    def listed(self, *words):
        return json.loads(self.lunctl(*words, "list", "--json"))

    def session(self, lun):
        return initiator.Session(self.library, f"127.0.0.1:{self.machine.ports[ISCSI]}", TARGET, lun)

    def read(self, lun, blocks):
        session = self.session(lun)
        found = []
        for first in range(0, blocks, 512):
            found += stamps(session.read(first, min(512, blocks - first)), first)
        # What was read may lie in memory alone.
        session.flush()
        session.close()
        return found

    def power_on(self, first=False):
        """The machine, its file system and, before lund touches them, its images; then lund."""
        self.disk.serve()
        self.machine = Machine(self.folder, self.folder / f"{self.file_system}.socket")
        self.note("the machine is up")
        # Half of the time the kernel writes at once what nobody has flushed, so that the disk has it, too.
        hurry = "cd /proc/sys/vm; echo 10 > dirty_writeback_centisecs; echo 10 > dirty_expire_centisecs; "
        said = self.machine.shell(
            f"{self.chance.choice([hurry, ''])}mount -t {self.file_system} -o noatime /dev/vda /disk "
            "&& echo mounted || dmesg | tail -n 30")
        if b"mounted" not in said:
            raise Wrong(f"the file system: {said.decode(errors='replace')}")
        if not first:
            self.check_images()
        self.machine.shell("mkdir -p /disk/data; cd /disk; printf '[disks]\\nthresholds = []\\n' > lund.toml; "
                           "lund serve --config /disk/lund.toml --data-dir /disk/data --iscsi-listen 0.0.0.0:3260 "
                           "--mgmt-listen 127.0.0.1:5988 </dev/null >/dev/console 2>&1 &")
        self.machine.until(lambda: "/cimom" in self.machine.console(), "lund", 60)
        self.note("lund is up")

    def check_images(self):
        """QEMU finds images that are whole, as the loss has left them."""
        here = self.folder / "images"
        shutil.rmtree(here, ignore_errors=True)
        with tarfile.open(self.machine.fetch("/disk/data/disks"), "r:") as archive:
            archive.extractall(here, filter="data")
        # Those that may be parents first: their logs are replayed, in the copy.
        for image in [*sorted(here.rglob("*.vhdx")), *sorted(here.rglob("*.qcow2"))]:
            repair = ["-r", "all"] if image.suffix == ".vhdx" else []
            check = subprocess.run(["qemu-img", "check", "-f", image.suffix[1:], *repair, image],
                                   capture_output=True, text=True)
            # 3: clusters that nobody uses.
            if check.returncode not in (0, 3):
                raise Wrong(f"{image.name}: {check.stdout}{check.stderr}")

    def set_up(self):
        self.power_on(first=True)
        self.lunctl("target", "create", "t")
        for volume in self.volumes:
            self.lunctl("disk", "create", volume.name, "--size", "4MiB", "--format", volume.format)
            self.lunctl("target", "map", "t", volume.name, "--lun", str(volume.lun))

    def work(self):
        """Until the power goes."""
        stop = threading.Event()
        threads = [threading.Thread(target=target, args=(stop,), daemon=True)
                   for volume in self.volumes for target in (volume.writer, volume.worker)]
        jobs = len(self.jobs)
        for thread in threads:
            thread.start()
        # After some jobs, and soon after the last of them, so that one may be in its midst.
        wanted, end = jobs + self.chance.randrange(2, 16), time.monotonic() + 20
        while len(self.jobs) < wanted and time.monotonic() < end and not self.failures:
            time.sleep(0.005)
        time.sleep(self.chance.random() ** 2 * 1.5)
        stop.set()
        self.machine.kill()
        self.disk.lose_power()
        self.note(f"POWER LOST: of all sectors {self.disk.kept} were kept, {self.disk.lost} lost")
        for thread in threads:
            thread.join(150)
            if thread.is_alive():
                raise Wrong("a client hangs")
        if self.failures:
            raise Wrong(self.failures)

    def recover(self):
        self.power_on()
        self.note("recovering")
        alerts = json.loads(self.lunctl("status", "--json")).get("alerts")
        if alerts:
            raise Wrong(f"alerts: {alerts}")
        end = time.monotonic() + 120
        while True:
            jobs = {job["id"]: job for job in self.listed("job")}
            if all(job["ended"] for job in jobs.values()):
                break
            if time.monotonic() > end:
                raise Wrong(f"jobs do not end: {[job for job in jobs.values() if not job['ended']]}")
            time.sleep(0.05)
        for job, words in self.jobs.items():
            if job not in jobs:
                raise Wrong(f"job {job} was lost: {words}")
        for job in jobs.values():
            if job["state"] not in ("Completed", "Exception") or bool(job["errors"]) == (job["state"] == "Completed"):
                raise Wrong(f"job {job}")
        disks = {disk["name"]: disk for disk in self.listed("disk")}
        snapshots = self.listed("snapshot")
        for volume in self.volumes:
            of = disks[volume.name]["id"]
            mine = [it["name"] for it in snapshots if it["disk"] in (of, volume.name)]
            volume.recover(disks, mine)
        self.note("recovered")
        partial = self.machine.shell("find /disk/data/disks -name '*.partial'").decode().split()
        if partial:
            raise Wrong(f"left behind: {partial}")

    def tear_down(self):
        """Everything goes, and nothing is left."""
        for volume in self.volumes:
            self.lunctl("target", "unmap", "t", str(volume.lun))
        for volume in self.volumes:
            names = sorted(volume.snapshots)
            while names:
                before = len(names)
                for name in list(names):
                    if self.lunctl_result(["snapshot", "delete", f"{volume.name}@{name}"]).returncode == 0:
                        names.remove(name)
                if len(names) == before:
                    raise Wrong(f"snapshots stay: {names}")
            self.lunctl("disk", "delete", volume.name)
        left = self.machine.shell("find /disk/data/disks -type f ! -name .lund-pool").decode().split()
        if left:
            raise Wrong(f"left behind: {left}")
        self.machine.shell("kill -TERM $(pidof lund); while pidof lund; do sleep 0.1; done; umount /disk")
        self.machine.kill()
        self.disk.lose_power(loses=False)

    def told(self):
        text = "\n".join(self.story[-60:])
        if self.machine:
            text += f"\n--- console ---\n{self.machine.console()[-6000:]}"
        return text


def main():
    if not initiator.load():
        print("libiscsi is not installed")
        return 77
    seed = sys.argv[2] if len(sys.argv) > 2 else str(random.SystemRandom().randrange(1 << 32))
    losses = int(os.environ.get("LUND_POWER_LOSSES", "3"))
    with tempfile.TemporaryDirectory(prefix="lund-power-") as directory:
        folder = pathlib.Path(directory)
        build(pathlib.Path(sys.argv[1]), folder, [pathlib.Path(binary("lund"))])
        booted = False
        for file_system in os.environ.get("LUND_POWER_SYSTEMS", "ext4 xfs").split():
            print(f"{file_system}: seed {seed}, {losses} losses of power", flush=True)
            world = World(folder, file_system, seed)
            try:
                if not booted:
                    world.disk.serve()
                    Machine(folder, folder / f"{file_system}.socket", kept=False).keep()
                    world.disk.lose_power(loses=False)
                    booted = True
                world.set_up()
                for loss in range(losses):
                    world.work()
                    world.recover()
                    print(f"{file_system}: {loss + 1}: {len(world.jobs)} jobs, {world.stamps} writes, "
                          f"{world.disk.flushes} flushes, sectors lost {world.disk.lost}, kept {world.disk.kept}, "
                          f"{time.monotonic() - world.begin:.0f} s", flush=True)
                world.tear_down()
                if os.environ.get("LUND_POWER_STORY"):
                    print("\n".join(world.story))
            except Exception:
                # For whoever has to find out why.
                print(world.told(), flush=True)
                if keep := os.environ.get("LUND_POWER_KEEP"):
                    shutil.copytree(folder, keep, dirs_exist_ok=True,
                                    ignore=shutil.ignore_patterns("memory", "*.socket", "monitor"))
                raise
            finally:
                if world.machine:
                    world.machine.kill()
                world.disk.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
