#!/usr/bin/env python3
"""qcow2 both ways with QEMU. QEMU makes an image and writes a pattern into it, lund serves it and an
initiator alters it, then `qemu-img check` finds nothing wrong and `qemu-img compare` no difference
from a model that was altered in the same way. Images that lund makes are read by QEMU.

    qcow2.py [VARIANT...]      all of them if none is named"""

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

KIB, MIB = 1 << 10, 1 << 20
SIZE = 24 * MIB
SEED = 5

# Name, options of `qemu-img create`, size.
VARIANTS = {
    "default": ([], SIZE),
    "clusters of 512 bytes": (["cluster_size=512"], 6 * MIB),
    "clusters of 4 KiB": (["cluster_size=4k"], SIZE),
    "clusters of 2 MiB": (["cluster_size=2M"], SIZE),
    "counts of 1 bit": (["refcount_bits=1"], SIZE),
    "counts of 8 bits": (["refcount_bits=8"], SIZE),
    "counts of 64 bits": (["refcount_bits=64", "cluster_size=4k"], SIZE),
    "version 2": (["compat=0.10"], SIZE),
    "lazy refcounts": (["lazy_refcounts=on"], SIZE),
    "preallocated metadata": (["preallocation=metadata"], SIZE),
    "preallocated, falloc": (["preallocation=falloc"], SIZE),
    "preallocated, full": (["preallocation=full"], SIZE),
    "an odd size": ([], SIZE - 37 * 512),
}


def call(*command, status=(0,)):
    """Output of a command that must end so within two minutes."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    if done.returncode not in status:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
                 f"exit status {done.returncode}, not {status}")
    return done.stdout + done.stderr


def qemu_io(form, image, commands):
    words = ["qemu-io", "-f", form, "-d", "unmap"]
    for command in commands:
        words += ["-c", command]
    out = call(*words, image)
    if "failed" in out.lower() or "error" in out.lower():
        sys.exit(f"{commands} on {image}: {out}")


def steps(chance, size, count):
    """Writes, zeroes and discards all over a disk, as qemu-io's commands, and as those that do the
    same to a raw file."""
    real, model = [], []
    for _ in range(count):
        longest = chance.choice([4 * KIB, 64 * KIB, MIB])
        length = min(chance.randrange(512, longest + 512, 512), size)
        offset = chance.randrange(0, size - length + 512, 512)
        fill = chance.randrange(1, 255)
        kind = chance.choice(["write", "write", "write", "zero", "unmap", "discard"])
        if kind == "write":
            real.append(f"write -P {fill} {offset} {length}")
            model.append(real[-1])
        else:
            verb = {"zero": "write -z", "unmap": "write -z -u", "discard": "discard"}[kind]
            if kind == "discard":  # QEMU leaves alone what is no whole unit of its own
                offset, length = offset // (64 * KIB) * (64 * KIB), 128 * KIB
                length = min(length, size - offset)
                real.append(f"write -z -u {offset} {length}")
            else:
                real.append(f"{verb} {offset} {length}")
            model.append(f"write -z {offset} {length}")
        if chance.random() < 0.2:
            real.append("flush")
    return real, model


class Bench:
    """A daemon with one target, and a model beside each disk."""

    def __init__(self, lund, directory):
        self.lund, self.directory = lund, pathlib.Path(directory)
        self.count = 0
        self.target = json.loads(self.lunctl("target", "create", "formats"))["name"]

    def lunctl(self, *words, status=(0,)):
        return call(binary("lunctl"), "--server", self.lund.server, "--json", *words, status=status)

    def create(self, size, *words):
        """A disk of lund's own; its name and its file."""
        self.count += 1
        name = f"disk{self.count}"
        disk = json.loads(self.lunctl("disk", "create", name, "--size", str(size),
                                      "--format", "qcow2", *words))
        return name, pathlib.Path(disk["path"])

    def adopt(self, image, size):
        """The same, whose file is somebody else's."""
        name, path = self.create(size)
        shutil.copyfile(image, path)
        return name, path

    def expose(self, name):
        self.lunctl("target", "map", self.target, name, "--lun", "0")
        return f"iscsi://{self.lund.portal}/{self.target}/0"

    def hide(self):
        self.lunctl("target", "unmap", self.target, "0")

    def alter(self, name, path, model, size, count=60):
        """An initiator alters the disk; QEMU finds the image sound and as the model is."""
        chance = random.Random(SEED)
        real, same = steps(chance, size, count)
        url = self.expose(name)
        call("qemu-img", "compare", "-f", "raw", "-F", "raw", url, model)
        qemu_io("raw", url, real)
        qemu_io("raw", model, same)
        call("qemu-img", "compare", "-f", "raw", "-F", "raw", url, model)
        self.hide()
        self.verify(path, model)

    def verify(self, path, model):
        call("qemu-img", "check", "-f", "qcow2", path)
        call("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, model)

    def file(self, name):
        return self.directory / name

    def model(self, size):
        path = self.file("model.raw")
        path.unlink(missing_ok=True)
        with open(path, "wb") as file:
            file.truncate(size)
        return path


def pattern(size):
    last = size // 512 * 512 - 512
    return [f"write -P 0x11 0 {min(3 * MIB, size // 2)}", f"write -P 0x22 {size // 2 + 512} 70k",
            f"write -P 0x33 {last} 512", f"write -z {MIB} 100k"]


def variants(bench, wanted):
    for name, (options, size) in VARIANTS.items():
        if wanted and name not in wanted:
            continue
        image = bench.file("image.qcow2")
        words = ["-o", ",".join(options)] if options else []
        call("qemu-img", "create", "-f", "qcow2", *words, image, str(size))
        model = bench.model(size)
        qemu_io("qcow2", image, pattern(size))
        qemu_io("raw", model, pattern(size))
        disk, path = bench.adopt(image, size)
        bench.alter(disk, path, model, size)
        print(f"qcow2: {name}: altered, check clean, identical", flush=True)


def compressed(bench):
    for kind in ("zlib", "zstd"):
        for cluster in ("4k", "64k", "2M"):
            model = bench.model(SIZE)
            qemu_io("raw", model, pattern(SIZE))
            with open(model, "r+b") as file:
                file.seek(8 * MIB)
                file.write(random.Random(SEED).randbytes(MIB) + b"lund " * 200_000)
            image = bench.file("image.qcow2")
            image.unlink(missing_ok=True)
            call("qemu-img", "convert", "-c", "-O", "qcow2", "-o",
                 f"compression_type={kind},cluster_size={cluster}", model, image)
            disk, path = bench.adopt(image, SIZE)
            bench.alter(disk, path, model, SIZE)
        print(f"qcow2: compressed with {kind}: altered, check clean, identical", flush=True)


def backing(bench):
    pool = bench.create(MIB)[1].parent
    base, middle = pool / "base.raw", pool / "middle.qcow2"
    for form in ("raw", "qcow2"):
        model = bench.model(SIZE)
        with open(base, "wb") as file:
            file.truncate(SIZE // 2)
        qemu_io("raw", base, ["write -P 0x44 0 5M", f"write -P 0x45 {SIZE // 2 - 1536} 1536"])
        qemu_io("raw", model, ["write -P 0x44 0 5M", f"write -P 0x45 {SIZE // 2 - 1536} 1536"])
        below, parent = base, "raw"
        if form == "qcow2":
            call("qemu-img", "create", "-f", "qcow2", "-b", "base.raw", "-F", "raw", middle, str(SIZE))
            for image in (middle, model):
                qemu_io("raw" if image == model else "qcow2", image, ["write -P 0x55 4M 2M", "write -z 1M 1M"])
            below, parent = middle, "qcow2"
        disk, path = bench.create(SIZE)
        path.unlink()
        call("qemu-img", "create", "-f", "qcow2", "-b", below.name, "-F", parent, path, str(SIZE))
        digest = call("sha256sum", below)
        bench.alter(disk, path, model, SIZE)
        assert call("sha256sum", below) == digest, "the backing file was changed"
        print(f"qcow2: a backing file, {form}: altered, check clean, identical", flush=True)


def snapshots(bench):
    """Clusters that an internal snapshot has too are copied before they are written."""
    image, model, before = bench.file("image.qcow2"), bench.model(SIZE), bench.file("before.raw")
    call("qemu-img", "create", "-f", "qcow2", image, str(SIZE))
    qemu_io("qcow2", image, pattern(SIZE))
    qemu_io("raw", model, pattern(SIZE))
    shutil.copyfile(model, before)
    call("qemu-img", "snapshot", "-c", "one", image)
    disk, path = bench.adopt(image, SIZE)
    bench.alter(disk, path, model, SIZE)
    call("qemu-img", "snapshot", "-a", "one", path)
    bench.verify(path, before)
    print("qcow2: an internal snapshot is what it was", flush=True)


def own(bench):
    """Images that lund makes, and grows while they are in use."""
    for words in ([], ["--provisioning", "full"]):
        disk, path = bench.create(SIZE, *words)
        bench.alter(disk, path, bench.model(SIZE), SIZE)
        if words:
            assert path.stat().st_blocks * 512 >= SIZE * 3 // 4, path.stat()
    url = bench.expose(disk)
    bench.lunctl("disk", "expand", disk, "--size", str(2 * SIZE))
    model = bench.file("model.raw")
    with open(model, "r+b") as file:
        file.truncate(2 * SIZE)
    tail = [f"write -P 0x66 {2 * SIZE - 100 * KIB} 100k", f"write -P 0x67 {SIZE - 512} 1k"]
    qemu_io("raw", url, tail)
    qemu_io("raw", model, tail)
    call("qemu-img", "compare", "-f", "raw", "-F", "raw", url, model)
    bench.hide()
    bench.verify(path, model)
    assert json.loads(call("qemu-img", "info", "--output=json", path))["virtual-size"] == 2 * SIZE
    url = bench.expose(disk)
    call("qemu-io", "-f", "raw", "-c", f"discard {SIZE // 2 - 512} {2 * SIZE - (SIZE // 2 - 512)}", url)
    bench.lunctl("disk", "shrink", disk, "--size", str(SIZE // 2 - 512))
    os.truncate(model, SIZE // 2 - 512)
    call("qemu-img", "compare", "-f", "raw", "-F", "raw", url, model)
    bench.hide()
    bench.verify(path, model)
    assert json.loads(call("qemu-img", "info", "--output=json", path))["virtual-size"] == SIZE // 2 - 512
    bench.lunctl("disk", "expand", disk, "--size", str(SIZE))
    os.truncate(model, SIZE)
    bench.verify(path, model)
    print("qcow2: lund's own images, thin and full, grown and cut in use: check clean, identical", flush=True)


def refused(bench):
    """What is not supported is not touched, and the LUN says that it is not ready."""
    raw = bench.file("data.raw")
    for options in ("extended_l2=on", f"data_file={raw},data_file_raw=on"):
        image = bench.file("image.qcow2")
        image.unlink(missing_ok=True)
        call("qemu-img", "create", "-f", "qcow2", "-o", options, image, str(SIZE))
        disk, path = bench.adopt(image, SIZE)
        url = bench.expose(disk)
        call("qemu-io", "-f", "raw", "-c", "write 0 4k", url, status=(1,))
        bench.hide()
        call("cmp", image, path)
    print("qcow2: subclusters and external data files are refused and left alone", flush=True)


def killed(bench):
    """A kill costs clusters that nobody uses, and nothing else; flushed data is there."""
    disk, path = bench.create(SIZE)
    url = bench.expose(disk)
    flushed = ["write -P 0x77 1M 300k", "write -P 0x78 9M 100k", "flush"]
    qemu_io("raw", url, flushed)
    writes = [f"write -P 0x79 {n * 97 * KIB + 12 * MIB} 33k" for n in range(100)]
    words = [word for command in writes for word in ("-c", command)]
    client = subprocess.Popen(["qemu-io", "-f", "raw", *words, url],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for _ in range(60):
        client.stdout.readline()
    bench.lund.kill()
    client.kill()
    client.wait()
    call("qemu-img", "check", "-f", "qcow2", path, status=(0, 3))
    qemu_io("qcow2", path, ["read -P 0x77 1M 300k", "read -P 0x78 9M 100k", "read -P 0 0 1M"])
    bench.lund.again = True
    bench.lund.start()
    qemu_io("raw", url, ["read -P 0x77 1M 300k", "write -P 0x7a 0 2M", "read -P 0x78 9M 100k"])
    bench.hide()
    call("qemu-img", "check", "-f", "qcow2", path, status=(0, 3))
    print("qcow2: after kill -9 check finds lost clusters at most, and flushed data is there", flush=True)


def main():
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory, Lund() as lund:
        bench = Bench(lund, directory)
        variants(bench, wanted)
        if not wanted:
            for check in (compressed, backing, snapshots, own, refused, killed):
                check(bench)


main()
