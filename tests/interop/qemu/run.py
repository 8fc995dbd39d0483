#!/usr/bin/env python3
"""qemu-img and qemu-io use the demo disk over iscsi://: size, patterns, copy there and back,
allocation map, discard that frees blocks on the host.

    run.py [--url iscsi://...]     without it a daemon is started, and the host's blocks are checked"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lund import Lund  # noqa: E402

MIB = 1 << 20
SIZE = 256 * MIB


def call(*command, status=0):
    """Output of a command that must end with `status` within two minutes."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    if done.returncode != status:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}exit status {done.returncode}, not {status}")
    return done.stdout + done.stderr


def qemu_io(url, *commands, read_only=False):
    """Runs qemu-io's commands; any failure among them, a wrong pattern too, is an error."""
    words = ["qemu-io", "-f", "raw", *(["-r"] if read_only else [])]
    for command in commands:
        words += ["-c", command]
    out = call(*words, url)
    if "failed" in out.lower() or "error" in out.lower():
        sys.exit(f"{commands}: {out}")
    return out


def say(text):
    print(f"qemu: {text}", flush=True)


def info(url):
    shown = json.loads(call("qemu-img", "info", "--output=json", url))
    assert shown["virtual-size"] == SIZE, shown
    say(f"qemu-img info: {shown['virtual-size']} bytes, {shown['format']}")


def patterns(url):
    qemu_io(url, "write -P 0xa5 0 4k", f"write -P 0x5a {SIZE - MIB} 1M", "write -P 7 3M 3M",
            "flush", "aio_write -P 9 16M 8M", "aio_write -P 10 24M 512", "aio_flush",
            "write -f -P 11 32M 64k")
    qemu_io(url, "read -P 0xa5 0 4k", f"read -P 0x5a {SIZE - MIB} 1M", "read -P 7 3M 3M",
            "read -P 9 16M 8M", "read -P 10 24M 512", "read -P 11 32M 64k", "read -P 0 64M 1M",
            read_only=True)
    qemu_io(url, "write -z 4M 1M", "read -P 0 4M 1M", "read -P 7 3M 1M", "read -P 7 5M 1M")
    say("qemu-io: patterns, FUA, flush and write zeroes read back in a new session")


def copy(url):
    with tempfile.TemporaryDirectory() as directory:
        source, back = pathlib.Path(directory, "source"), pathlib.Path(directory, "back")
        with open(source, "wb") as file:
            for block in range(0, SIZE // MIB, 4):  # 64 of 256 MiB, scattered
                file.seek(block * MIB)
                file.write(os.urandom(MIB))
            file.truncate(SIZE)
        call("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, url)
        call("qemu-img", "compare", "-f", "raw", "-F", "raw", source, url)
        call("qemu-img", "convert", "-f", "raw", "-O", "raw", url, back)
        call("cmp", source, back)
    say("qemu-img convert there and back, compare: identical")


def thin(url, image):
    qemu_io(url, "discard 0 256M")
    extents = json.loads(call("qemu-img", "map", "--output=json", "-f", "raw", url))
    assert all(e["zero"] and not e["data"] for e in extents), extents
    qemu_io(url, "write -P 1 8M 4M")
    extents = json.loads(call("qemu-img", "map", "--output=json", "-f", "raw", url))
    data = [(e["start"], e["length"]) for e in extents if e["data"]]
    assert data == [(8 * MIB, 4 * MIB)], extents
    say("qemu-img map (GET LBA STATUS) shows exactly what was written")
    if image:
        before = image.stat().st_blocks
        qemu_io(url, "discard 8M 4M", "read -P 0 8M 4M")
        freed = (before - image.stat().st_blocks) * 512
        assert freed >= 4 * MIB, f"discard of 4 MiB freed {freed} bytes on the host"
        say(f"discard gave {freed} bytes back to the host")


def all_of(url, image):
    info(url)
    patterns(url)
    copy(url)
    thin(url, image)


def chap():
    """With CHAP configured: the right secret gets in, in discovery too, and nothing else does."""
    with tempfile.TemporaryDirectory() as directory:
        secrets = {"secret": "initiator-secret", "mutual": "targets-own-secret"}
        for name, secret in secrets.items():
            path = pathlib.Path(directory, name)
            path.write_text(secret + "\n")
            path.chmod(0o600)
        config = pathlib.Path(directory, "lund.toml")
        config.write_text(f"""[iscsi.chap]
user = "host"
secret_file = "{directory}/secret"
mutual_user = "target"
mutual_secret_file = "{directory}/mutual"
""")
        with Lund("--demo", "--demo-size", "16MiB", "--config", str(config)) as lund:
            def url(user):
                return lund.url.replace("iscsi://", f"iscsi://{user}@" if user else "iscsi://")

            def ls(user, *more):
                words = ["iscsi-ls", *more, url(user).rsplit("/", 2)[0]]
                return subprocess.run(words, capture_output=True, text=True, timeout=60)

            qemu_io(url("host%initiator-secret"), "write -P 3 0 1M", "read -P 3 0 1M")
            for wrong in ("", "host%initiator-secreT", "other%initiator-secret"):
                done = subprocess.run(["qemu-img", "info", url(wrong)], capture_output=True, timeout=60)
                assert done.returncode != 0, f"{wrong or 'no secret'} got in"
            right = ls("host%initiator-secret")
            assert lund.iqn in right.stdout, right
            assert lund.iqn not in ls("").stdout, "discovery without a secret"
            mutual = "?target_user=target&target_password="
            inq = ["iscsi-inq", url("host%initiator-secret") + mutual + "targets-own-secret"]
            call(*inq)
            wrong = [inq[0], inq[1] + "x"]
            done = subprocess.run(wrong, capture_output=True, timeout=60)
            assert done.returncode != 0, "libiscsi took a wrong proof of the target"
    say("CHAP: one way, mutual and in discovery; wrong secrets are refused")


def zero_copy():
    """Reads that are sent from the page cache, and writes to the same blocks right behind them."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        config = pathlib.Path(directory, "lund.toml")
        config.write_text("[iscsi]\nzero_copy_reads = 'always'\n[memory]\npinned = '64MiB'\n[disks]\nthresholds = []\n")
        with Lund("--demo", "--demo-size", "256MiB", "--config", config,
                  data_dir=pathlib.Path(directory, "lund")) as lund:
            def sent():
                with urllib.request.urlopen(f"{lund.server}/metrics", timeout=60) as answer:
                    text = answer.read().decode()
                return int(re.search(r"^lund_zero_copy_bytes_total (\d+)", text, re.M)[1])

            qemu_io(lund.url, "write -P 1 0 16M")
            deadline = time.monotonic() + 60
            # Until it is pinned.
            while sent() < 64 * MIB:
                assert time.monotonic() < deadline, f"{sent()} bytes"
                qemu_io(lund.url, *["read -P 1 0 16M"] * 4)
            # Of writes that are under way together any may be the last: what is compared comes behind all of them.
            both = [command for number in range(2, 40)
                    for command in ("aio_read 0 16M", f"aio_write -P {number} 4M 1M", "aio_read 3M 3M")]
            before = sent()
            qemu_io(lund.url, *both, "aio_flush", "write -P 77 4M 1M", "read -P 77 4M 1M", "read -P 1 5M 11M", "read -P 1 0 4M")
            assert sent() > before
            say(f"{sent() / MIB:.0f} MiB sent without a copy, beside writes, too: read as they were written")


def direct():
    """The same disk past the page cache, where the temporary directory's file system can do that."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "probe")
        path.touch()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
        except OSError as error:
            say(f"direct I/O is not tried: {error.strerror} in {directory}")
            return
        config = pathlib.Path(directory, "lund.toml")
        config.write_text("[disks]\ndirect_io = true\nthresholds = []\n")
        with Lund("--demo", "--demo-size", "256MiB", "--config", config,
                  data_dir=pathlib.Path(directory, "lund")) as lund:
            all_of(lund.url, lund.image())
    say("all of this past the page cache, too")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url")
    options = parser.parse_args()
    if options.url:
        all_of(options.url, None)
        return
    with Lund("--demo", "--demo-size", "256MiB") as lund:
        all_of(lund.url, lund.image())
    zero_copy()
    direct()
    if shutil.which("iscsi-ls") and shutil.which("iscsi-inq"):
        chap()
    else:
        say("CHAP is not tried: libiscsi's programs are not installed")


main()
