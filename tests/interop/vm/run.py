#!/usr/bin/env python3
"""A real Linux kernel with open-iscsi, in an emulated machine, uses a fresh disk of the daemon.

    run.py MACHINE [SCRIPT...]     MACHINE: the folder with the machine's `run` and `checks`;
                                   SCRIPT: which of ours to run, all of them without it"""

import os
import pathlib
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from lund import ROOT, Lund, binary  # noqa: E402

SIZE = 512 << 20
# What the machine lacks, unpacked there by `tests/run deps`.
TOOLS = ROOT / "target" / "vm-tools" / "tools"
# What is off until somebody asks for it.
EVERYTHING = """
[scsi]
long_cdbs = true
compare_and_write_blocks = 255
management_url = "https://storage.example:5989/"
"""
SECRETS = {"secret": "initiator-secret", "mutual": "targets-own-secret"}


def main():
    machine = pathlib.Path(sys.argv[1])
    checks = [c for c in (machine / "checks").iterdir() if c.is_file()]
    wanted = sys.argv[2:]
    with tempfile.TemporaryDirectory() as directory:
        daemons = {
            # Two portals, for two paths.
            "checks": ["--iscsi-listen", "127.0.0.1:0"],
            "checks-chap": chap(directory),
            "checks-scsi": two_groups(directory, "both", EVERYTHING),
            "checks-alua": two_groups(directory, "implicit"),
            "checks-copy": [],
        }
        # Disks beside the demo's.
        disks = {"checks-copy": ["copy"]}
        for script, arguments in daemons.items():
            if not wanted or script in wanted:
                status = boot(machine, checks, HERE / script, directory, arguments,
                              disks.get(script, []))
                if status != 0:
                    return status
    return 0


def boot(machine, checks, script, directory, arguments, disks):
    """Runs a script in a machine of its own, against a daemon of its own."""
    with Lund("--demo", "--demo-size", str(SIZE), *arguments) as lund:
        image = lund.image()
        for lun, disk in enumerate(disks, 1):
            for words in (["disk", "create", disk, "--size", str(SIZE)],
                          ["target", "map", lund.iqn, disk, "--lun", str(lun)]):
                subprocess.run([binary("lunctl"), "--server", lund.server, *words], check=True,
                               stdout=subprocess.DEVNULL)
        hook = pathlib.Path(directory, "hook")
        wish, done = pathlib.Path(directory, "wish"), pathlib.Path(directory, "done")
        for fifo in (wish, done):
            fifo.unlink(missing_ok=True)
            os.mkfifo(fifo)
        hook.write_text(f"""#!/bin/sh
case $1 in
  blocks) exec stat -c %b "{image}";;
  restart) echo restart > "{wish}"; exec cat "{done}";;
  resize) exec "{binary('lunctl')}" --server "{lund.server}" disk expand demo --size "$2";;
  state) exec "{binary('lunctl')}" --server "{lund.server}" portal-group set-state "$2" "$3";;
  algorithm) exec python3 "{HERE}/algorithm.py" "{binary('lunctl')}" "{lund.server}";;
esac
exit 2
""")
        hook.chmod(0o700)
        threading.Thread(target=restarts, args=(lund, wish, done), daemon=True).start()
        command = [machine / "run", "--timeout", "1200", "--hook", hook]
        for check in checks:
            command += ["--file", check]
        if TOOLS.is_dir():
            command += ["--file", TOOLS]
        environment = dict(
            os.environ, ISCSI_PORTAL=lund.portals[0], ISCSI_PORTAL2=lund.portals[-1],
            ISCSI_ALL_PORTALS="1", ISCSI_RESTART="1", ISCSI_HOOK_RESIZE="1", ISCSI_IQN=lund.iqn, ISCSI_LUN="0", ISCSI_SIZE=str(SIZE),
            ISCSI_OPTIONAL="start opcodes caw lba-status write-same pr logs alua",
            ISCSI_USER="host", ISCSI_PASSWORD=SECRETS["secret"],
            ISCSI_MUTUAL_USER="target", ISCSI_MUTUAL_PASSWORD=SECRETS["mutual"])
        return subprocess.run([*command, script], env=environment, stdin=subprocess.DEVNULL).returncode


def restarts(lund, wish, done):
    """Restarts the daemon whenever the hook wishes for it."""
    while True:
        with open(wish) as wishes:
            wishes.read()
        lund.restart()
        with open(done, "w") as answer:
            answer.write("restarted\n")


# The disk of the machine that the tests run on may be nearly full: no unit attentions that say so.
QUIET = "[disks]\nthresholds = []\n"


def chap(directory):
    """Arguments for a daemon whose targets want CHAP."""
    for name, secret in SECRETS.items():
        path = pathlib.Path(directory, name)
        path.write_text(secret + "\n")
        path.chmod(0o600)
    config = pathlib.Path(directory, "lund.toml")
    config.write_text(f"""{QUIET}[iscsi.chap]
user = "host"
secret_file = "{directory}/secret"
mutual_user = "target"
mutual_secret_file = "{directory}/mutual"
discovery = false
""")
    return ["--config", str(config)]


def two_groups(directory, alua, more=""):
    """Arguments for a daemon with two portal groups, whose states some may change; `more` is TOML."""
    config = pathlib.Path(directory, f"{alua}.toml")
    config.write_text(f"""{QUIET}[iscsi]
alua = "{alua}"

[[iscsi.portal_groups]]
tag = 1
listen = ["127.0.0.1:0"]

[[iscsi.portal_groups]]
tag = 2
listen = ["127.0.0.1:0"]
state = "active-non-optimized"
{more}""")
    return ["--config", str(config)]


sys.exit(main())
