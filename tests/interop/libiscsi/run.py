#!/usr/bin/env python3
"""Runs every test of libiscsi's iscsi-test-cu, each in a process of its own, against a fresh disk.

    run.py [--url iscsi://...] [--only REGEX] [--verbose]

A test passes, fails, skips itself, hangs or crashes. `not-implemented.txt` beside this file names
the tests that do not pass yet, each with the reason: a test that is named there and passes is an
error just as one that is not named and does not pass, so the file can only shrink."""

import argparse
import collections
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from lund import Lund, binary  # noqa: E402

LIMIT = 90
NO_RESERVATIONS = "[SKIPPED] PERSISTENT RESERVE IN is not implemented."


def tests():
    """SUITE.TEST of everything in the family ALL, in the suite's own order."""
    listing = subprocess.run(["iscsi-test-cu", "--list"], capture_output=True, text=True).stdout
    found = [line.strip() for line in listing.splitlines()]
    names = [n.removeprefix("ALL.") for n in found if re.fullmatch(r"ALL\.\w+\.\w+", n)]
    if len(names) < 100:
        sys.exit(f"iscsi-test-cu --list named {len(names)} tests: is this the program?")
    # MultipathIO.CompareAndWrite takes block 256 for zeroes, which it is on a fresh disk only.
    return sorted(names, key=lambda name: not name.startswith("Multipath"))


def expectations():
    """[(pattern, its text, reason)] from not-implemented.txt."""
    rows = []
    for number, line in enumerate((HERE / "not-implemented.txt").read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        pattern, _, reason = line.partition(" ")
        if not reason.strip():
            sys.exit(f"not-implemented.txt:{number}: no reason is given")
        rows.append((re.compile(re.escape(pattern).replace(r"\*", r"\w*")), pattern, reason.strip()))
    return rows


def run(name, url):
    """(outcome, why) of one test."""
    # The same URL twice: the multipath tests want two paths to one logical unit.
    urls = [url, url] if name.startswith("Multipath") else [url]
    command = ["iscsi-test-cu", "--dataloss", "--allow-sanitize", "--fail", "-t", "ALL." + name, *urls]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return "hang", f"no end after {LIMIT} s"
    # It asks for reservations before and after each test, on every path; that is not the test's own affair.
    text = (done.stdout + done.stderr).replace(NO_RESERVATIONS, "", 2 * len(urls))
    reason = re.search(r"\[(?:SKIPPED|FAILED)\]\s*(.*)|\d+\.\s+(\S+:\d+\s+- .*)", text)
    why = " ".join((reason.group(1) or reason.group(2)).split()) if reason else ""
    if done.returncode < 0:
        return "crash", f"signal {-done.returncode}"
    summary = re.search(r"^\s+tests\s+\d+\s+(\d+)\s+(\d+)\s+(\d+)", text, re.M)
    if not summary or summary.group(1) == "0":
        return "fail", "it did not run: " + " ".join(text.split())[-200:]
    if summary.group(3) != "0" or done.returncode != 0:
        return "fail", why
    return ("skip", why) if "[SKIPPED]" in text else ("pass", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="a target that already runs; its disk is overwritten")
    parser.add_argument("--only", default=".", help="tests whose SUITE.TEST matches")
    parser.add_argument("--verbose", action="store_true", help="a line for every test")
    options = parser.parse_args()
    if options.url:
        return check(options, options.url)
    with Lund("--demo", "--demo-size", "256MiB") as lund:
        def lunctl(*words):
            subprocess.run([binary("lunctl"), "--server", lund.server, *words], check=True,
                           stdout=subprocess.DEVNULL)

        lunctl("disk", "create", "large-blocks", "--size", "512MiB", "--block-length", "4096")
        lunctl("target", "map", lund.iqn, "large-blocks", "--lun", "1")
        # The same disk through another target, where nobody may write.
        lunctl("target", "create", "reader")
        lunctl("target", "map", "reader", "demo", "--lun", "0")
        lunctl("target", "allow", "reader", "--address", "0.0.0.0/0", "--read-only")
        read_only = lund.url.removesuffix("demo/0") + "reader/0"
        return check(options, lund.url, lund.url.removesuffix("0") + "1", read_only)


def check(options, url, large_url=None, read_only_url=None):
    """Runs the tests; 0 if every one does what is expected of it. GetLBAStatus.UnmapSingle is right
    only where a logical block is a physical block: it wants the status of LBA i+1 to begin at
    i + the logical blocks of a physical one, and SBC-3 5.8.2 wants it to begin where it was asked."""
    expected, used = expectations(), set()
    count, wrong = collections.Counter(), []
    for name in tests():
        if not re.search(options.only, name):
            continue
        begin = time.monotonic()
        special = {"GetLBAStatus": large_url, "ReadOnly": read_only_url}.get(name.split(".")[0])
        outcome, why = run(name, special or url)
        count[outcome] += 1
        row = next((row for row in expected if row[0].fullmatch(name)), None)
        if row:
            used.add(row[1])
        verdict = ""
        if outcome == "pass" and row:
            verdict = f"passes now: take {row[1]} out of not-implemented.txt"
        elif outcome in ("hang", "crash"):
            verdict = f"a {outcome} is never expected"
        elif outcome != "pass" and not row:
            verdict = "should pass"
        if verdict:
            wrong.append(name)
        if verdict or options.verbose:
            print(f"{name:45} {outcome:5} {time.monotonic() - begin:5.1f} s  {why}", flush=True)
        if verdict:
            print(f"    ^ {verdict}", flush=True)
    if options.only == ".":
        for _, pattern, _ in expected:
            if pattern not in used:
                wrong.append(pattern)
                print(f"not-implemented.txt names {pattern}, which iscsi-test-cu does not have")
    print("iscsi-test-cu: " + ", ".join(f"{n} {outcome}" for outcome, n in sorted(count.items())))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
