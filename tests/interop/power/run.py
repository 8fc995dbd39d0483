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
POOLS = {"default": "/disk/data/disks", "other": "/disk/other"}
FILES = "/disk/files"
CONFIGURATION = f"""[disks]
thresholds = []
allowed_directories = ["{FILES}"]

[[pools]]
name = "other"
directory = "{POOLS['other']}"
thresholds = []
"""
TARGET = "iqn.2026-01.io.lund:t"
MIB_BLOCKS = (1 << 20) // 512
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
        "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"]}
DISK_BYTES = 512 << 20
# What is not possible everywhere, and said so.
REFUSALS = ["ISCT-STG-014", "cannot share blocks", "images that are laid over it", "which is linked to it",
            # Of a move or conversion to what the disk is already; of a compaction.
            "image already", "image in that pool already", "gives none back", "it has snapshots"]
# Clusters that were taken when the power went are lost until a repair: no data is.
LEAKS = "that nothing in it uses"
CLONE_LUN = 20
KINDS = ["snapshot"] * 3 + ["delete"] * 3 + ["move"] * 3 + ["convert"] * 2 + ["export"] * 2 + [
    "rollback", "clone", "link", "import", "import", "compact", "expand", "shrink"]


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
        # The job that was submitted last.
        self.last = None
        # Disks that were made of this one, and files: what they may hold.
        self.clones, self.files = {}, {}
        self.pool, self.is_now = "default", format
        self.session = None
        self.made = 0

    def note(self, text):
        self.world.note(f"{self.name}: {text}")

    # What initiators do.

    def writer(self, stop):
        try:
            session = self.session = self.world.session(self.lun)
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
            with self.lock:
                self.session = None
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
        kind = self.chance.choice(KINDS)
        names = sorted(self.snapshots)
        if kind in ("rollback", "delete", "link") and not names or kind == "snapshot" and len(names) > 4:
            return
        if kind in ("clone", "link", "import") and len(self.clones) > 1 or kind == "import" and not self.files \
                or kind == "export" and len(self.files) > 1 or kind == "compact" and names:
            return
        if kind in ("move", "convert", "shrink"):
            # Snapshots and roll backs may have changed its format.
            self.look(self.world.disks())
        getattr(self, {"import": "taken_in"}.get(kind, kind))(stop, names)
        self.pending = None

    def name_of_one_more(self, letter):
        self.made += 1
        return f"{letter}{self.made}" if letter == "s" else f"{self.name}-{letter}{self.made}"

    def snapshot(self, stop, _names):
        name = self.name_of_one_more("s")
        self.copied(stop, "snapshot", name, ["snapshot", "create", name, self.name])

    def clone(self, stop, _names):
        name = self.name_of_one_more("c")
        self.copied(stop, "clone", name, ["disk", "clone", self.name, name])

    def link(self, stop, names):
        """A disk that is laid over a snapshot, which cannot go before it."""
        name, of = self.name_of_one_more("l"), self.chance.choice(names)
        self.pending = ("clone", name, self.snapshots[of])
        if self.run(stop, ["snapshot", "expose", f"{self.name}@{of}", name, "--linked"]):
            self.clones[name] = self.snapshots[of]

    def export(self, stop, _names):
        self.made += 1
        format = self.chance.choice(FORMATS)
        path = f"{FILES}/{self.name}-{self.made}.{format}"
        self.copied(stop, "export", path, ["disk", "export", self.name, path, "--format", format])

    # `import` is a word of the language.
    def taken_in(self, stop, _names):
        path, name = self.chance.choice(sorted(self.files)), self.name_of_one_more("i")
        held = self.files[path]
        how = self.chance.choice([["--in-place"], ["--pool", "other"], ["--to-format", self.chance.choice(FORMATS)]])
        self.pending = ("import", name, held, path if how == ["--in-place"] else None)
        if self.run(stop, ["disk", "import", path, name, "--format", path.rsplit(".")[-1], *how]):
            self.taken(*self.pending[1:])

    def taken(self, name, held, path):
        self.clones[name] = held
        if path:
            del self.files[path]

    def move(self, stop, _names):
        pool = self.chance.choice([pool for pool in POOLS if pool != self.pool])
        format = self.chance.choice([self.is_now, *FORMATS])
        self.pending = ("move", pool, format)
        if self.run(stop, ["disk", "move", self.name, "--pool", pool, "--format", format]):
            self.pool = pool

    def convert(self, stop, _names):
        format = self.chance.choice([format for format in FORMATS if format != self.is_now])
        space = self.chance.choice([[], ["--provisioning", "thin"], ["--provisioning", "full"]])
        self.pending = ("move", self.pool, format)
        self.run(stop, ["disk", "convert", self.name, format, *space])

    def compact(self, stop, _names):
        self.pending = ("compact", None)
        self.run(stop, ["disk", "compact", self.name])

    def delete(self, stop, names):
        name = self.chance.choice(names)
        self.pending = ("delete", name)
        if self.run(stop, ["snapshot", "delete", f"{self.name}@{name}"]):
            del self.snapshots[name]

    def rollback(self, stop, names):
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

    def expand(self, stop, _names):
        size = len(self.held.blocks) // MIB_BLOCKS + 1
        if size > 8:
            return
        self.pending = ("size", size * MIB_BLOCKS)
        if self.run(stop, ["disk", "expand", self.name, "--size", f"{size}MiB"]):
            with self.lock:
                self.held.resize(size * MIB_BLOCKS)

    def shrink(self, stop, _names):
        """To where nothing is behind the end, and nobody writes meanwhile."""
        with self.lock:
            size = len(self.held.blocks) // MIB_BLOCKS - 1
            if size < 3 or not self.session:
                return
            first, end = size * MIB_BLOCKS, len(self.held.blocks)
            self.held.put(first, end - first, 0)
            self.session.unmap(first, end - first)
            self.pending = ("size", first)
            if self.run(stop, ["disk", "shrink", self.name, "--size", f"{size}MiB"]):
                self.held.resize(first)

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
        {"snapshot": self.snapshots, "clone": self.clones, "export": self.files}[kind][name] = window

    def run(self, stop, words):
        """Whether the job was completed. A loss of power is an exception: what was pending stays so."""
        self.note(" ".join(words))
        self.last = None
        submitted = self.world.lunctl_result([*words, "--no-wait"])
        if submitted.returncode != 0:
            if stop.is_set() or submitted.returncode == 7:
                raise initiator.Lost
            if not any(text in submitted.stderr for text in REFUSALS):
                raise Wrong(f"{words}: {submitted.stderr}")
            return False
        job = self.last = submitted.stdout.strip()
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

    def recover(self, disks, snapshots, jobs):
        """Finds out how what was pending has ended, and compares."""
        disk = disks[self.name]
        if self.pending:
            kind, what, *more = self.pending
            done = self.done(kind, what, more, disks, snapshots)
            # A job that the loss has swallowed was promised to nobody.
            ended = jobs[self.last]["state"] == "Completed" if self.last else done
            if done is not None and bool(done) != bool(ended):
                raise Wrong(f"{self.name}, pending {self.pending}: job {self.last} is {jobs[self.last]}, "
                            f"and this is {'there' if done else 'not there'}; {disk}")
            if not ended:
                pass
            elif kind in ("snapshot", "clone", "export"):
                self.keep(kind, what, more[0])
            elif kind == "import":
                self.taken(what, *more)
            elif kind == "delete":
                del self.snapshots[what]
            elif kind == "size":
                self.held.resize(what)
            elif kind == "move":
                self.pool = what
        if disk["pool"] != self.pool:
            raise Wrong(f"{self.name} is to be in {self.pool}: {disk}")
        self.look(disks)
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
        for name, window in sorted(self.clones.items()):
            self.compare(name, window)
        self.clones.clear()
        if self.files:
            path = self.chance.choice(sorted(self.files))
            shown, held = f"{self.name}-file", self.files[path]
            self.world.lunctl("disk", "import", path, shown, "--format", path.rsplit(".")[-1])
            self.compare(shown, held)
        if self.snapshots:
            name = self.chance.choice(sorted(self.snapshots))
            shown = f"{self.name}-shown"
            self.world.lunctl("snapshot", "expose", f"{self.name}@{name}", shown)
            self.compare(shown, self.snapshots[name])
        check = self.world.lunctl_result(["disk", "check", self.name])
        if check.returncode != 0 and not any(text in check.stderr for text in [LEAKS, *REFUSALS]):
            raise Wrong(f"{self.name}: {check.stderr}")

    def done(self, kind, what, more, disks, snapshots):
        """Whether what was pending is there; none if that cannot be seen."""
        if kind in ("snapshot", "delete"):
            return (what in snapshots) == (kind == "snapshot")
        if kind in ("clone", "import"):
            return what in disks
        if kind == "export":
            return what in self.world.files()
        if kind == "size":
            return disks[self.name]["size_bytes"] == what * 512
        if kind == "move":
            return (disks[self.name]["pool"], disks[self.name]["format"]) == (what, more[0])
        return None

    def look(self, disks):
        """What its image is."""
        self.is_now = disks[self.name]["format"]

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
        # All of them, and those since the last loss: jobs that have ended go after five minutes.
        self.jobs, self.fresh = 0, {}
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
            self.jobs += 1
            self.fresh[job] = " ".join(words)

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

    def disks(self):
        return {disk["name"]: disk for disk in self.listed("disk")}

    def files(self):
        """What lies where clients have their files."""
        return self.machine.shell(f"find {FILES} -type f").decode().split()

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
        self.machine.shell(f"cd /disk; mkdir -p data other files; printf '{CONFIGURATION}' > lund.toml; "
                           "lund serve --config /disk/lund.toml --data-dir /disk/data --iscsi-listen 0.0.0.0:3260 "
                           "--mgmt-listen 127.0.0.1:5988 </dev/null >/dev/console 2>&1 &")
        self.machine.until(lambda: "/cimom" in self.machine.console(), "lund", 60)
        self.note("lund is up")

    def check_images(self):
        """QEMU finds images that are whole, as the loss has left them."""
        here = self.folder / "images"
        shutil.rmtree(here, ignore_errors=True)
        with tarfile.open(self.machine.fetch("/disk", "data/disks other files"), "r:") as archive:
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
        for thread in threads:
            thread.start()
        # After some jobs, and soon after the last of them, so that one may be in its midst.
        wanted, end = self.jobs + self.chance.randrange(2, 16), time.monotonic() + 20
        while self.jobs < wanted and time.monotonic() < end and not self.failures:
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
        for job, words in self.fresh.items():
            if job not in jobs:
                raise Wrong(f"job {job} was lost: {words}")
        self.fresh.clear()
        for job in jobs.values():
            if job["state"] not in ("Completed", "Exception") or bool(job["errors"]) == (job["state"] == "Completed"):
                raise Wrong(f"job {job}")
        disks = self.disks()
        snapshots = self.listed("snapshot")
        for volume in self.volumes:
            of = disks[volume.name]["id"]
            mine = [it["name"] for it in snapshots if it["disk"] in (of, volume.name)]
            volume.recover(disks, mine, jobs)
        self.note("recovered")
        self.nothing_left()

    def nothing_left(self):
        """No file is there that nobody knows: the sweeper may have to come by first."""
        end = time.monotonic() + 60
        while True:
            there = self.machine.shell(f"find {' '.join(POOLS.values())} -type f ! -name .lund-pool").decode().split()
            known = self.lunctl("state", "export")
            exported = {path for volume in self.volumes for path in volume.files}
            left = [path for path in there if path.removesuffix(".redo") not in known]
            left += sorted(exported.symmetric_difference(self.files()))
            if not left:
                return
            if time.monotonic() > end:
                raise Wrong(f"left behind, or missing: {left}")
            time.sleep(0.2)

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
            for path in volume.files:
                self.machine.shell(f"rm {path}")
            volume.files.clear()
        left = self.machine.shell(f"find {' '.join(POOLS.values())} -type f ! -name .lund-pool").decode().split()
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
                    print(f"{file_system}: {loss + 1}: {world.jobs} jobs, {world.stamps} writes, "
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
