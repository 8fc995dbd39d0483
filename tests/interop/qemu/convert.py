#!/usr/bin/env python3
"""Disks and files that lund brings into other formats, with QEMU as the judge: QEMU makes images,
lund imports, converts, clones and exports them, QEMU finds the same data in what came out.

    convert.py"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lund import Lund, binary  # noqa: E402

MIB = 1 << 20
SIZE = 40 * MIB
# lund's format, QEMU's, options of qemu-img create.
FORMATS = {
    "raw": ("raw", []),
    "qcow2": ("qcow2", []),
    "vhdx": ("vhdx", []),
    "vhd": ("vpc", ["-o", "force_size=on"]),
}


def call(*command):
    """Output of a command that must succeed within two minutes."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}exit status {done.returncode}")
    return done.stdout


def lunctl(lund, *words):
    return json.loads(call(binary("lunctl"), "--server", lund.server, "--json", *words) or "null")


def same(model, image, form):
    driver = FORMATS[form][0]
    call("qemu-img", "compare", "-f", "raw", "-F", driver, model, image)
    # VHD and raw have no check in QEMU.
    if driver in ("qcow2", "vhdx"):
        call("qemu-img", "check", "-f", driver, image)
    size = json.loads(call("qemu-img", "info", "--output=json", "-f", driver, image))["virtual-size"]
    assert size == SIZE, (image, size)


def fill(model, image, driver, chance):
    """The same data in a plain file and in QEMU's image."""
    commands = []
    with open(model, "wb") as file:
        file.truncate(SIZE)
        for _ in range(12):
            length = chance.choice([512, 4096, 65536, MIB])
            start, byte = chance.randrange(0, SIZE - length, 512), chance.randrange(1, 256)
            file.seek(start)
            file.write(bytes([byte]) * length)
            commands += ["-c", f"write -P {byte} {start} {length}"]
    call("qemu-io", "-f", driver, *commands, image)


# VMDK images are imported only.
VMDK = ["monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentFlat",
        "twoGbMaxExtentSparse"]


def vmdk(lund, files, chance):
    """Images that QEMU makes in each form of VMDK, and refusals."""
    model, filled = files / "vmdk-model", files / "vmdk-filled"
    call("qemu-img", "create", "-q", "-f", "raw", filled, SIZE)
    fill(model, filled, "raw", chance)
    for form in VMDK:
        image = files / f"{form}.vmdk"
        call("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={form}", model, image)
        for target in ("raw", "qcow2"):
            words = ["--to-format", target] if target != "raw" else []
            disk = lunctl(lund, "disk", "import", image, f"{form}-{target}", *words)
            assert disk["format"] == target, disk
            same(model, disk["path"], target)
            lunctl(lund, "disk", "delete", f"{form}-{target}")
    child = files / "child.vmdk"
    call("qemu-img", "create", "-q", "-f", "vmdk", "-b", files / "monolithicSparse.vmdk", "-F", "vmdk", child)
    flat = files / "monolithicFlat-flat.vmdk"
    aside = files / "aside"
    for image, break_it, words in [
            (child, lambda: None, "parent"),
            (files / "monolithicSparse.vmdk",
             lambda: truncate(files / "monolithicSparse.vmdk", 0.6), "behind the end"),
            (files / "monolithicFlat.vmdk", lambda: truncate(flat, 0.5), "the extent ends at"),
            (files / "monolithicFlat.vmdk",
             lambda: (flat.rename(aside), flat.symlink_to(aside)), "no links")]:
        break_it()
        done = subprocess.run([binary("lunctl"), "--server", lund.server, "disk", "import", image, "x"],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and words in done.stderr, (image, words, done.stderr)
    print(f"convert: {', '.join(VMDK)} are imported; damaged ones, links and parents are refused", flush=True)


def chains(lund, files, chance):
    """QEMU's images over others, in each format that a parent may have, as a whole; and refusals."""
    below = files / "below"
    below.mkdir()
    for form, (driver, options) in FORMATS.items():
        base, middle, child = below / f"base.{form}", files / f"middle-{form}", below / f"child-{form}"
        call("qemu-img", "create", "-q", "-f", driver, *options, base, SIZE)
        fill(files / "unused", base, driver, chance)
        for image, parent, parents in [(middle, f"below/{base.name}", driver), (child, f"../{middle.name}", "qcow2")]:
            call("qemu-img", "create", "-q", "-f", "qcow2", "-b", parent, "-F", parents, image)
            fill(files / "unused", image, "qcow2", chance)
        model = files / f"chain-model-{form}"
        call("qemu-img", "convert", "-f", "qcow2", "-O", "raw", child, model)
        for target in ("raw", "qcow2"):
            disk = lunctl(lund, "disk", "import", child, "chain", "--to-format", target)
            same(model, disk["path"], target)
            info = json.loads(call("qemu-img", "info", "--output=json", disk["path"]))
            assert "backing-filename" not in info, info
            lunctl(lund, "disk", "delete", "chain")
    outside = files.parent / "outside"
    call("qemu-img", "create", "-q", "-f", "raw", outside, SIZE)

    def rebased(parent):
        call("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", parent, files / "middle-raw")

    for words, reason, break_it in [
            (["--in-place"], "parent", lambda: None),
            ([], "none of the allowed directories", lambda: rebased("../outside")),
            ([], "does not exist", lambda: rebased("gone")),
            ([], "its own chain of parents", lambda: rebased("below/child-raw"))]:
        break_it()
        done = subprocess.run([binary("lunctl"), "--server", lund.server, "disk", "import", below / "child-raw", "x",
                               *words], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and reason in done.stderr, (reason, done.stderr)
    print(f"convert: images over {', '.join(FORMATS)} are imported as a whole; loops, what is elsewhere and "
          "what is gone are refused", flush=True)


def truncate(path, part):
    with open(path, "r+b") as file:
        file.truncate(int(path.stat().st_size * part))


def main():
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    print(f"convert: seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        files = pathlib.Path(directory, "files").resolve()
        files.mkdir()
        config = pathlib.Path(directory, "lund.toml")
        config.write_text(f"[disks]\nallowed_directories = ['{files}']\n")
        with Lund("--config", config) as lund:
            vmdk(lund, files, chance)
            chains(lund, files, chance)
            for source, (driver, options) in FORMATS.items():
                image, model = files / f"brought.{source}", files / f"model.{source}"
                call("qemu-img", "create", "-q", "-f", driver, *options, image, SIZE)
                fill(model, image, driver, chance)
                for target in FORMATS:
                    name = f"{source}-{target}"
                    disk = lunctl(lund, "disk", "import", image, name, "--to-format", target)
                    assert disk["format"] == target, disk
                    same(model, disk["path"], target)
                    exported = files / f"{name}.exported"
                    lunctl(lund, "disk", "export", name, exported, "--format", source)
                    same(model, exported, source)
                    clone = lunctl(lund, "disk", "clone", name, f"{name}-clone", "--format", source,
                                   "--provisioning", "full")
                    same(model, clone["path"], source)
                    if target != source:
                        made = lunctl(lund, "disk", "convert", name, source, "--provisioning", "full")
                        assert (made["id"], made["naa"]) == (disk["id"], disk["naa"]), made
                        same(model, made["path"], source)
                    exported.unlink()
                    for gone in (name, f"{name}-clone"):
                        lunctl(lund, "disk", "delete", gone)
                taken = lunctl(lund, "disk", "import", image, f"{source}-taken", "--in-place")
                assert taken["path"] == str(image) and taken["format"] == source, taken
                same(model, image, source)
                print(f"convert: {source} is brought into {', '.join(FORMATS)}", flush=True)


if __name__ == "__main__":
    main()
