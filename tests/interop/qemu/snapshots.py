#!/usr/bin/env python3
"""Snapshots of disks of every format while QEMU writes them over iSCSI, with QEMU as the judge: it
checks every image and compares each snapshot, and the disk, with plain files that had the same
changes; and what lund lists as changed between two snapshots makes the newer of the older.

    snapshots.py [FORMAT...]        without names: all of them"""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lund import Lund, binary  # noqa: E402

MIB = 1 << 20
SIZE = 48 * MIB
DRIVERS = {"raw": "raw", "qcow2": "qcow2", "vhdx": "vhdx", "vhd": "vpc"}


def call(*command):
    """Output of a command that must succeed within two minutes."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}exit status {done.returncode}")
    return done.stdout


def lunctl(lund, *words):
    return json.loads(call(binary("lunctl"), "--server", lund.server, "--json", *words) or "null")


def change(chance, model, url):
    """The same random changes for a plain file and, by qemu-io, for a LUN."""
    words = ["qemu-io", "-f", "raw"]
    with open(model, "r+b") as file:
        for _ in range(24):
            start = chance.randrange(SIZE // 4096) * 4096
            length = min(chance.choice([512, 4096, 65536, 200 * 1024, 2 * MIB]), SIZE - start)
            file.seek(start)
            if chance.randrange(5):
                byte = chance.randrange(1, 256)
                words += ["-c", f"write -P {byte} {start} {length}"]
                file.write(bytes([byte]) * length)
            else:
                words += ["-c", f"discard {start} {length}"]
                file.write(bytes(length))
    out = call(*words, "-c", "flush", url)
    if "failed" in out.lower() or "error" in out.lower():
        sys.exit(out)


def files(lund):
    """Snapshots and disks by their names: file and QEMU's driver for it."""
    found = {}
    for disk in lunctl(lund, "disk", "list"):
        found[disk["name"]] = (disk["path"], DRIVERS[disk["format"]])
    for snapshot in lunctl(lund, "snapshot", "list"):
        found[snapshot["name"]] = (snapshot["path"], DRIVERS[snapshot["format"]])
    return found


def judge(lund, models):
    """The daemon is stopped meanwhile: QEMU looks at the files."""
    found = files(lund)
    lund.stop()
    for name, model in models.items():
        path, driver = found[name]
        call("qemu-img", "compare", "-f", "raw", "-F", driver, model, path)
        if driver in ("qcow2", "vhdx"):
            call("qemu-img", "check", "-f", driver, path)
    lund.again = True
    lund.start()


def apply(lund, older, newer, words):
    """What is listed, taken from the newer model, makes it of the older."""
    data = bytearray(pathlib.Path(older).read_bytes())
    wanted = pathlib.Path(newer).read_bytes()
    changes = lunctl(lund, "snapshot", "diff", *words)
    for extent in changes["extents"]:
        start, end = extent["offset"], extent["offset"] + extent["length"]
        data[start:end] = bytes(end - start) if extent["zeroes"] else wanted[start:end]
    assert bytes(data) == wanted, (words, changes)
    return sum(extent["length"] for extent in changes["extents"])


def run(form, chance, directory):
    directory.mkdir()
    with Lund(data_dir=directory / "served") as lund:
        lunctl(lund, "disk", "create", "d", "--size", str(SIZE), "--format", form)
        target = lunctl(lund, "target", "create", "snapshots")
        lunctl(lund, "target", "map", "snapshots", "d")
        url = lambda: f"iscsi://{lund.portal}/{target['name']}/0"  # noqa: E731
        now, models = directory / "now", {}
        with open(now, "wb") as file:
            file.truncate(SIZE)

        def snapshot(name):
            lunctl(lund, "snapshot", "create", name, "d")
            models[name] = directory / name
            shutil.copy(now, models[name])

        for name in ("s1", "s2", "s3", "s4"):
            change(chance, now, url())
            snapshot(name)
        change(chance, now, url())
        judge(lund, {**models, "d": now})
        for older, newer in (("s1", "s2"), ("s1", "s4"), ("s3", "s4")):
            apply(lund, models[older], models[newer], (f"d@{older}", f"d@{newer}"))
        apply(lund, models["s2"], now, ("d@s2",))
        # One in the middle, the oldest, the newest.
        for name in ("s2", "s1", "s4"):
            lunctl(lund, "snapshot", "delete", f"d@{name}")
            del models[name]
            change(chance, now, url())
            judge(lund, {**models, "d": now})
        lunctl(lund, "snapshot", "rollback", "d@s3")
        shutil.copy(models["s3"], now)
        change(chance, now, url())
        judge(lund, {**models, "d": now})
        clone = lunctl(lund, "disk", "clone", "d", "c", "--format", form)
        assert clone["format"] == form, clone
        lunctl(lund, "snapshot", "expose", "d@s3", "linked", "--linked")
        judge(lund, {"c": now, "linked": models["s3"], "d": now, "s3": models["s3"]})
        # The disk goes into another pool; its snapshot stays, and the disk comes back to what it holds.
        pool = directory / "other"
        pool.mkdir()
        lunctl(lund, "pool", "create", "other", pool.resolve())
        lunctl(lund, "disk", "move", "d", "--pool", "other")
        change(chance, now, url())
        judge(lund, {"d": now, "linked": models["s3"], "s3": models["s3"]})
        apply(lund, models["s3"], now, ("d@s3",))
        lunctl(lund, "snapshot", "rollback", "d@s3")
        shutil.copy(models["s3"], now)
        change(chance, now, url())
        judge(lund, {"d": now, "linked": models["s3"], "s3": models["s3"]})
        assert lunctl(lund, "disk", "show", "d")["pool"] == "other"
        print(f"snapshots: {form}: taken, listed, deleted, rolled back, cloned, linked, left behind", flush=True)


def main():
    seed = random.randrange(1 << 30)
    print(f"snapshots: seed {seed}", flush=True)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        for form in sys.argv[1:] or DRIVERS:
            run(form, chance, pathlib.Path(directory, form))


if __name__ == "__main__":
    main()
