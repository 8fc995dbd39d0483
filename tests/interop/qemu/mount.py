#!/usr/bin/env python3
"""Raw disks and the host's own file systems: one that came through iSCSI is mounted from the disk's
file, what the host writes there is seen by initiators, and QEMU's changes of the file too.

Without root and loop devices nothing is mounted: e2fsck and debugfs look instead."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lund import Lund, binary  # noqa: E402

MIB = 1 << 20
SIZE = 64 * MIB


def call(*command):
    """Output of a command that must succeed within two minutes."""
    done = subprocess.run([str(c) for c in command], capture_output=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}exit status {done.returncode}")
    return done.stdout


def say(text):
    print(f"mount: {text}", flush=True)


def lunctl(lund, *words):
    return json.loads(call(binary("lunctl"), "--server", lund.server, "--json", *words) or "null")


def can_mount():
    return os.geteuid() == 0 and os.path.exists("/dev/loop-control")


class Mounted:
    """`with Mounted(image, "rw") as folder:` as the host mounts a disk's file."""

    def __init__(self, image, mode):
        self.image, self.mode = image, mode

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        call("mount", "-o", f"loop,{self.mode}", self.image, self.folder.name)
        return pathlib.Path(self.folder.name)

    def __exit__(self, *_):
        call("umount", self.folder.name)
        self.folder.cleanup()


def raw(directory, provisioning):
    """A file system over iSCSI into the disk, read and written by the host, and back."""
    chance = random.Random(provisioning)
    words = {f"file-{number}": chance.randbytes(chance.randrange(1, 300_000)) for number in range(20)}
    source = pathlib.Path(directory, f"source-{provisioning}")
    source.mkdir()
    for name, data in words.items():
        (source / name).write_bytes(data)
    image = pathlib.Path(directory, f"{provisioning}.ext4")
    call("mkfs.ext4", "-q", "-d", source, image, str(SIZE // 1024))
    lund = Lund(data_dir=tempfile.mkdtemp(prefix="lund-mount-", dir=directory))
    lund.start()
    lunctl(lund, "disk", "create", "d", "--size", str(SIZE), "--provisioning", provisioning)
    lunctl(lund, "target", "create", "t")
    target = lunctl(lund, "target", "map", "t", "d", "--lun", "0")["target"]
    file = lunctl(lund, "disk", "list")[0]["path"]
    url = f"iscsi://{lund.portal}/{target}/0"
    call("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, url)
    assert lund.stop() == 0

    call("e2fsck", "-n", "-f", file)
    if can_mount():
        with Mounted(file, "ro") as folder:
            for name, data in words.items():
                assert (folder / name).read_bytes() == data, name
        # The host writes; what it has deleted goes as holes.
        with Mounted(file, "rw,discard") as folder:
            for name in list(words)[::2]:
                (folder / name).unlink()
                del words[name]
            words["from-the-host"] = chance.randbytes(5 * MIB)
            (folder / "from-the-host").write_bytes(words["from-the-host"])
    else:
        for name, data in words.items():
            assert call("debugfs", "-R", f"cat {name}", file) == data, name
    # So does QEMU, behind the file system's back: in the boot block, which ext4 leaves alone.
    call("qemu-io", "-f", "raw", "-c", "write -P 0x5a 0 512", "-c", "flush", file)

    lund.again = True
    lund.start()
    back = pathlib.Path(directory, f"{provisioning}.back")
    call("qemu-img", "convert", "-f", "raw", "-O", "raw", f"iscsi://{lund.portal}/{target}/0", back)
    assert lund.stop() == 0
    call("e2fsck", "-n", "-f", back)
    assert back.read_bytes()[:512] == b"\x5a" * 512
    for name, data in words.items():
        assert call("debugfs", "-R", f"cat {name}", back) == data, name
    how = "mounted, changed" if can_mount() else "checked"
    say(f"raw, {provisioning}: a file system that came over iSCSI was {how} on the host, and came back whole")


def main():
    if not can_mount():
        say("nothing is mounted: not root, or no loop devices")
    with tempfile.TemporaryDirectory() as directory:
        for provisioning in ["thin", "full"]:
            raw(directory, provisioning)


main()
