#!/usr/bin/env python3
"""Images of other formats as live disks, both ways: QEMU makes an image and writes to it, lund serves
and changes it, QEMU checks it and compares it with a model; and QEMU reads what lund made.

    formats.py [vhdx] [vhd]        without names: all of them"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lund import Lund, binary  # noqa: E402

MIB = 1 << 20
SIZE = 96 * MIB
# Name, QEMU's driver, lund's format, options of qemu-img create, lund's options.
VARIANTS = [
    ("vhdx, dynamic", "vhdx", "vhdx", ["subformat=dynamic"], []),
    ("vhdx, dynamic, blocks of 1 MiB", "vhdx", "vhdx", ["subformat=dynamic,block_size=1048576"], []),
    ("vhdx, fixed", "vhdx", "vhdx", ["subformat=fixed"], ["--provisioning", "full"]),
    ("vhd, dynamic", "vpc", "vhd", ["subformat=dynamic,force_size=on"], []),
    ("vhd, fixed", "vpc", "vhd", ["subformat=fixed,force_size=on"], ["--provisioning", "full"]),
]


def call(*command, status=0):
    """Output of a command that must end with `status` within two minutes."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    if done.returncode != status:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}exit status {done.returncode}, not {status}")
    return done.stdout + done.stderr


def say(text):
    print(f"formats: {text}", flush=True)


def lunctl(lund, *words):
    return json.loads(call(binary("lunctl"), "--server", lund.server, "--json", *words) or "null")


class Steps:
    """The same random changes for a model, a plain file, and for qemu-io on something else."""

    def __init__(self, model, seed):
        self.model, self.random = model, random.Random(seed)

    def change(self, target, driver, count):
        commands = []
        with open(self.model, "r+b") as model:
            for _ in range(count):
                start = self.random.randrange(SIZE // 4096) * 4096
                length = min(self.random.choice([4096, 65536, MIB, 3 * MIB]), SIZE - start)
                model.seek(start)
                kind = self.random.randrange(8)
                if kind < 6:
                    byte = self.random.randrange(1, 256)
                    commands.append(f"write -P {byte} {start} {length}")
                    model.write(bytes([byte]) * length)
                else:
                    # Through iSCSI a discard reads zeroes; QEMU's own drivers promise nothing.
                    zero = "write -z" if kind == 6 or driver != "raw" else "discard"
                    commands.append(f"{zero} {start} {length}")
                    model.write(bytes(length))
        words = ["qemu-io", "-f", driver]
        for command in [*commands, "flush"]:
            words += ["-c", command]
        out = call(*words, target)
        if "failed" in out.lower() or "error" in out.lower():
            sys.exit(f"{commands}: {out}")


def same(model, driver, image):
    call("qemu-img", "compare", "-f", "raw", "-F", driver, model, image)


def check(driver, image):
    """VHD has no check in QEMU."""
    if driver != "vpc":
        call("qemu-img", "check", "-f", driver, image)


class Served:
    """A disk of lund's, mapped as LUN 0 of a target of its own."""

    def __init__(self, directory, form, options):
        self.data = pathlib.Path(directory, "served")
        shutil.rmtree(self.data, ignore_errors=True)
        self.form = form
        self.lund = Lund(data_dir=self.data)
        self.lund.start()
        lunctl(self.lund, "disk", "create", "d", "--size", str(SIZE), "--format", form, *options)
        target = lunctl(self.lund, "target", "create", "formats")
        lunctl(self.lund, "target", "map", "formats", "d")
        self.name = target["name"] if "name" in target else target["iqn"]

    @property
    def url(self):
        return f"iscsi://{self.lund.portal}/{self.name}/0"

    @property
    def image(self):
        files = list((self.data / "data").rglob(f"*.{self.form}"))
        assert len(files) == 1, files
        return files[0]

    def stop(self):
        status = self.lund.stop()
        if status != 0:
            sys.exit(f"lund exited with {status} after SIGTERM, not with 0")
        self.lund.again = True


def variant(directory, name, driver, form, create, options, seed):
    model = pathlib.Path(directory, "model")
    with open(model, "wb") as file:
        file.truncate(SIZE)
    steps = Steps(model, seed)
    # What lund makes.
    served = Served(directory, form, options)
    steps.change(served.url, "raw", 20)
    same(model, "raw", served.url)
    served.stop()
    check(driver, served.image)
    same(model, driver, served.image)
    shown = json.loads(call("qemu-img", "info", "--output=json", "-f", driver, served.image))
    assert shown["virtual-size"] == SIZE, shown
    # QEMU changes it, lund serves it again.
    steps.change(served.image, driver, 20)
    served.lund.start()
    same(model, "raw", served.url)
    steps.change(served.url, "raw", 20)
    served.stop()
    check(driver, served.image)
    same(model, driver, served.image)
    # What QEMU makes, in its place.
    image = pathlib.Path(directory, "made-by-qemu")
    call("qemu-img", "create", "-q", "-f", driver, *(["-o", create[0]] if create else []), image, str(SIZE))
    with open(model, "wb") as file:
        file.truncate(SIZE)
    steps.change(image, driver, 20)
    shutil.copy(image, served.image)
    served.lund.start()
    same(model, "raw", served.url)
    steps.change(served.url, "raw", 30)
    # Killed, not stopped: the log, if there is one, is replayed by QEMU.
    served.lund.kill()
    if form == "vhdx":
        call("qemu-img", "check", "-f", driver, "-r", "all", served.image)
    check(driver, served.image)
    same(model, driver, served.image)
    served.lund.again = True
    served.lund.start()
    steps.change(served.url, "raw", 20)
    served.lund.kill()
    served.lund.start()
    same(model, "raw", served.url)
    # It grows while it is in use.
    lunctl(served.lund, "disk", "expand", "d", "--size", str(SIZE + 64 * MIB))
    with open(model, "r+b") as file:
        file.truncate(SIZE + 64 * MIB)
    same(model, "raw", served.url)
    call("qemu-io", "-f", "raw", "-c", f"write -P 9 {SIZE + MIB} 1M", served.url)
    with open(model, "r+b") as file:
        file.seek(SIZE + MIB)
        file.write(b"\x09" * MIB)
    # It becomes smaller while it is in use, where it holds nothing, and what was there does not come back.
    smaller = SIZE - 3 * MIB - 512 * 7
    call("qemu-io", "-f", "raw", "-c", f"write -z {smaller} {SIZE - smaller}", "-c", f"discard {SIZE} {64 * MIB}",
         served.url)
    lunctl(served.lund, "disk", "shrink", "d", "--size", str(smaller))
    os.truncate(model, smaller)
    same(model, "raw", served.url)
    served.stop()
    check(driver, served.image)
    same(model, driver, served.image)
    shown = json.loads(call("qemu-img", "info", "--output=json", "-f", driver, served.image))
    assert shown["virtual-size"] == smaller, shown
    served.lund.start()
    lunctl(served.lund, "disk", "expand", "d", "--size", str(SIZE))
    os.truncate(model, SIZE)
    same(model, "raw", served.url)
    served.stop()
    check(driver, served.image)
    same(model, driver, served.image)
    say(f"{name}: served, changed, killed, replayed, grown, cut; qemu-img check and compare agree (seed {seed})")


def log_guid(image):
    """LogGuid of the current header of a VHDX: zeroes if its log is empty."""
    with open(image, "rb") as file:
        data = file.read(192 << 10)
    headers = [data[at:at + 80] for at in (64 << 10, 128 << 10)]
    return max(headers, key=lambda header: int.from_bytes(header[8:16], "little"))[48:64]


def interrupted(directory):
    """A log that QEMU left, since it could not write to the BAT: lund replays it as QEMU does."""
    raw, image = pathlib.Path(directory, "replayed"), pathlib.Path(directory, "left.vhdx")
    call("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1048576", image, str(SIZE))
    options = (f"driver=vhdx,file.driver=blkdebug,file.image.driver=file,file.image.filename={image},"
               # QEMU puts the BAT at 2 MiB.
               f"file.inject-error.0.event=none,file.inject-error.0.sector={2 * MIB // 512},"
               "file.inject-error.0.iotype=write")
    served = Served(directory, "vhdx", [])
    served.stop()
    for place in range(8):
        out = call("qemu-io", "-c", f"write -P {place + 1} {place * 3}M 64k", "--image-opts", options, status=1)
        assert "Input/output error" in out, out
        assert any(log_guid(image)), "QEMU left no log"
        shutil.copy(image, served.image)
        call("qemu-img", "check", "-f", "vhdx", "-r", "all", image)
        call("qemu-img", "convert", "-f", "vhdx", "-O", "raw", image, raw)
        served.lund.start()
        same(raw, "raw", served.url)
        served.stop()
        assert not any(log_guid(served.image)), "lund left a log"
        check("vhdx", served.image)
        same(raw, "vhdx", served.image)
    say("8 logs that QEMU left: lund replays them as QEMU does")


def main():
    wanted = sys.argv[1:]
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    with tempfile.TemporaryDirectory() as directory:
        for name, driver, form, create, options in VARIANTS:
            if not wanted or form in wanted:
                variant(directory, name, driver, form, create, options, seed)
        if not wanted or "vhdx" in wanted:
            interrupted(directory)


main()
