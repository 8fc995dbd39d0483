#!/usr/bin/env python3
"""A disk that lund brings through formats and pools while QEMU writes to it over iSCSI; QEMU finds
what it wrote, over iSCSI and in the file that is left.

    moves.py"""

import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from convert import FORMATS, MIB, SIZE, call, lunctl, same  # noqa: E402
from lund import Lund, binary  # noqa: E402

TARGET = "iqn.2026-01.io.lund:t"


def commands(model, chance):
    """Writes and discards for qemu-io, and the same in a plain file."""
    words = []
    with open(model, "r+b") as file:
        for _ in range(300):
            length = chance.choice([512, 4096, 65536, MIB])
            start, byte = chance.randrange(0, SIZE - length, 512), chance.randrange(1, 256)
            file.seek(start)
            if chance.random() < 0.2:
                file.write(bytes(length))
                words += ["-c", f"write -z -u {start} {length}"]
            else:
                file.write(bytes([byte]) * length)
                words += ["-c", f"write -P {byte} {start} {length}"]
            if chance.random() < 0.05:
                words += ["-c", "flush"]
    return words


def main():
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    print(f"moves: seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        base = pathlib.Path(directory).resolve()
        model, pool = base / "model", base / "pool"
        pool.mkdir()
        with open(model, "wb") as file:
            file.truncate(SIZE)
        with Lund(data_dir=base / "lund") as lund:
            lunctl(lund, "pool", "create", "other", pool)
            lunctl(lund, "disk", "create", "d", "--size", SIZE)
            lunctl(lund, "target", "create", TARGET)
            lunctl(lund, "target", "map", TARGET, "d", "--lun", "0")
            url = f"iscsi://{lund.portal}/{TARGET}/0"
            for name, into in [*((name, "other") for name in FORMATS), ("qcow2", "default")]:
                words = commands(model, chance)
                writer = subprocess.Popen(["qemu-io", "-f", "raw", *words, url],
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                rate = ["--job-bandwidth", "64MiB"]
                done = subprocess.run([binary("lunctl"), "--server", lund.server, "disk", "move", "d",
                                       "--pool", into, "--format", name, *rate],
                                      capture_output=True, text=True, timeout=120)
                output, _ = writer.communicate(timeout=120)
                if writer.returncode != 0 or "failed" in output or "error" in output.lower():
                    sys.exit(f"qemu-io: {output}")
                if done.returncode != 0:
                    sys.exit(f"the move to {name}: {done.stderr}")
                call("qemu-img", "compare", "-f", "raw", "-F", "raw", model, url)
                print(f"moves: a {name} image in pool {into} has what QEMU wrote meanwhile", flush=True)
            last = lunctl(lund, "disk", "show", "d")["path"]
        same(model, last, "qcow2")
        print("moves: and so has its file", flush=True)


if __name__ == "__main__":
    main()
