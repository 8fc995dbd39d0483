#!/usr/bin/env python3
"""A real Linux kernel with open-iscsi, in an emulated machine, uses a fresh disk of the daemon.

    run.py MACHINE     MACHINE: the folder with the machine's `run` and `checks`"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from lund import Lund  # noqa: E402

SIZE = 512 << 20


def main():
    machine = pathlib.Path(sys.argv[1])
    checks = [c for c in (machine / "checks").iterdir() if c.is_file()]
    with Lund("--demo", "--demo-size", str(SIZE)) as lund, tempfile.TemporaryDirectory() as directory:
        hook = pathlib.Path(directory, "hook")
        hook.write_text(f'#!/bin/sh\n[ "$1" = blocks ] && exec stat -c %b "{lund.image()}"\nexit 2\n')
        hook.chmod(0o700)
        command = [machine / "run", "--timeout", "1200", "--hook", hook]
        for check in checks:
            command += ["--file", check]
        environment = dict(os.environ, ISCSI_PORTAL=lund.portal, ISCSI_IQN=lund.iqn,
                           ISCSI_LUN="0", ISCSI_SIZE=str(SIZE))
        return subprocess.run([*command, HERE / "checks"], env=environment, stdin=subprocess.DEVNULL).returncode


sys.exit(main())
