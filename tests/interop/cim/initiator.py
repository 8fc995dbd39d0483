"""What initiators see: libiscsi's tools and QEMU, under a name of their own."""

import json
import os
import re
import subprocess

TARGET_ADDRESS = re.compile(r"^Target:(\S+)")


def targets(portal, name):
    """What discovery and logins as `name` show: LUNs by target."""
    done = subprocess.run(["iscsi-ls", "-s", "-i", name, f"iscsi://{portal}"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    found, current = {}, None
    for line in done.stdout.splitlines():
        if match := TARGET_ADDRESS.match(line):
            current = found.setdefault(match.group(1).split(",")[0], [])
        elif match := re.match(r"Lun:(\d+)", line):
            current.append(int(match.group(1)))
    return found


def _image(portal, target, lun, name, **more):
    return "json:" + json.dumps({"driver": "raw", "file": {
        "driver": "iscsi", "transport": "tcp", "portal": portal, "target": target, "lun": lun,
        "initiator-name": name, **more}})


def _run(portal, target, lun, name, *commands, read_only=False, user=None, password=None):
    words = ["qemu-io"] + (["-r"] if read_only else [])
    for command in commands:
        words += ["-c", command]
    secret = {}
    if user:
        words += ["--object", f"secret,id=chap,data={password}"]
        secret = {"user": user, "password-secret": "chap"}
    done = subprocess.run([*words, _image(portal, target, lun, name, **secret)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    return done.returncode == 0 and "failed" not in done.stdout + done.stderr


def write(portal, target, lun, name, byte, **secret):
    """Writes 64 KiB of a byte; whether that could be done."""
    return _run(portal, target, lun, name, f"write -P {byte} 0 64k", "flush", **secret)


def reads(portal, target, lun, name, byte, **secret):
    """Whether the first 64 KiB can be read and are of that byte."""
    return _run(portal, target, lun, name, f"read -P {byte} 0 64k", read_only=True, **secret)


class Session:
    """`with Session(…):` somebody is logged in."""

    def __init__(self, portal, target, lun, name):
        self.words = ["qemu-io", "-r", _image(portal, target, lun, name)]

    def __enter__(self):
        self.process = subprocess.Popen(self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        # It answers when it is logged in.
        self.process.stdin.write("length\n")
        self.process.stdin.flush()
        os.set_blocking(self.process.stdout.fileno(), True)
        assert self.process.stdout.read(1)
        return self

    def __exit__(self, *_):
        self.process.communicate("quit\n", timeout=60)
