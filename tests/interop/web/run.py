#!/usr/bin/env python3
"""Headless Chromium uses the web page: test.mjs says how. A session of QEMU's is there meanwhile.

    run.py [--pictures DIRECTORY]     keeps pictures of the views there"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from lund import ROOT, Lund, binary  # noqa: E402


def modules():
    """The packages, installed below target/ with a copy of the test beside them."""
    place = ROOT / "target" / "test-web"
    place.mkdir(parents=True, exist_ok=True)
    wanted = (HERE / "package.json").read_text()
    stamp = place / "done"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.copy(HERE / "package.json", place)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--no-package-lock"],
                       cwd=place, check=True, stdin=subprocess.DEVNULL, timeout=300)
        stamp.write_text(wanted)
    shutil.copy(HERE / "test.mjs", place)
    return place / "test.mjs"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=pathlib.Path)
    options = parser.parse_args()
    test = modules()
    chromium = shutil.which("chromium") or sys.exit("chromium is not installed")
    with Lund("--demo", "--demo-size", "64MiB") as lund:
        client = subprocess.Popen(["qemu-io", "-f", "raw", lund.url], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            environment = dict(os.environ, LUND_PAGE=lund.server, LUNCTL=str(binary("lunctl")), CHROMIUM=chromium, PICTURES=str(options.pictures or ""))
            status = subprocess.run(["node", test], env=environment, stdin=subprocess.DEVNULL, timeout=300).returncode
        finally:
            client.kill()
            client.wait()
    sys.exit(status)


if __name__ == "__main__":
    main()
