#!/usr/bin/env python3
"""Runs every test of libiscsi's iscsi-test-cu, each in a process of its own, against a fresh disk.

    run.py [--url iscsi://...] [--only REGEX] [--verbose]

A test passes, fails, skips itself, hangs or crashes. `not-implemented.txt` beside this file names
the tests that do not pass yet, each with the reason: a test that is named there and passes is an
error just as one that is not named and does not pass, so the file can only shrink.

The program is that of a newer Debian if `newer` beside this file could get it, else the system's."""

import argparse
import collections
import contextlib
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from lund import ROOT, Lund, binary  # noqa: E402

NEWER = ROOT / "target" / "libiscsi" / "iscsi-test-cu"
PROGRAM = str(NEWER) if NEWER.exists() else "iscsi-test-cu"
FAMILIES = ("ALL", "SCSI", "iSCSI")
# What the tests of CHAP log in with, and the one algorithm that libiscsi 1.20.0 knows: they offer
# stronger ones too, and do not carry them out.
ACCOUNT, SECRET = "iscsi-test", "a-secret-for-tests"
CHAP = """
[iscsi.chap]
user = "{account}"
secret_file = "{secret_file}"
algorithms = ["md5"]

[scsi]
compare_and_write_blocks = 255
"""
LIMIT = 90
# Sanitize.Readonly and Sanitize.Reservations try each service action and say which is not there.
NO_CRYPTO_ERASE = "[SKIPPED] SANITIZE CRYPTO_ERASE is not implemented according to REPORT_SUPPORTED_OPCODES."
NO_RESERVATIONS = "[SKIPPED] PERSISTENT RESERVE IN is not implemented."


def tests():
    """{SUITE.TEST: its family} of everything that is in one of the families, in the suite's own
    order; ALL does not have all."""
    listing = subprocess.run([PROGRAM, "--list"], capture_output=True, text=True).stdout
    found = [line.strip().split(".") for line in listing.splitlines() if line.count(".") == 2]
    names = {}
    for family in FAMILIES:
        for suite, test in (words[1:] for words in found if words[0] == family):
            names.setdefault(f"{suite}.{test}", family)
    if len(names) < 100:
        sys.exit(f"iscsi-test-cu --list named {len(names)} tests: is this the program?")
    # MultipathIO.CompareAndWrite takes block 256 for zeroes, which it is on a fresh disk only.
    return dict(sorted(names.items(), key=lambda name: not name[0].startswith("Multipath")))


def expectations(old):
    """[(pattern, its text, reason)] from not-implemented.txt; rows that begin with `1.19:` or
    `1.20:` are for programs of that age alone."""
    versions = {"1.19": old, "1.20": not old}
    rows = []
    for number, line in enumerate((HERE / "not-implemented.txt").read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        version, colon, rest = line.partition(":")
        if colon and version in versions:
            if not versions[version]:
                continue
            line = rest
        pattern, _, reason = line.partition(" ")
        if not reason.strip():
            sys.exit(f"not-implemented.txt:{number}: no reason is given")
        rows.append((re.compile(re.escape(pattern).replace(r"\*", r"\w*")), pattern, reason.strip()))
    return rows


def run(name, urls, limit=LIMIT):
    """(outcome, why) of one test, by its name with its family."""
    command = [PROGRAM, "--dataloss", "--allow-sanitize", "--fail", "-t", name, *urls]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit)
    except subprocess.TimeoutExpired:
        return "hang", f"no end after {limit} s"
    # It asks for reservations before and after each test, on every path; that is not the test's own affair.
    text = (done.stdout + done.stderr).replace(NO_RESERVATIONS, "", 2 * len(urls))
    if name.endswith(("Sanitize.Readonly", "Sanitize.Reservations")):
        text = text.replace(NO_CRYPTO_ERASE, "", 1)
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
        return check(options, {"": [options.url], "MultipathIO": [options.url] * 2})
    with contextlib.ExitStack() as stack:
        place = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lund-chap-")))
        file, secret = place / "lund.toml", place / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        file.write_text(CHAP.format(account=ACCOUNT, secret_file=secret))
        chap = stack.enter_context(Lund("--demo", "--config", file))
        # Two portals: the multipath tests want two paths to one logical unit.
        listen = ("--iscsi-listen", "127.0.0.1:0")
        lund = stack.enter_context(Lund(*listen, "--demo", "--demo-size", "256MiB"))

        def lunctl(*words):
            subprocess.run([binary("lunctl"), "--server", lund.server, *words], check=True,
                           stdout=subprocess.DEVNULL)

        lunctl("disk", "create", "large-blocks", "--size", "512MiB", "--block-length", "4096")
        lunctl("target", "map", lund.iqn, "large-blocks", "--lun", "1")
        # The same disk through another target, where nobody may write.
        lunctl("target", "create", "reader")
        lunctl("target", "map", "reader", "demo", "--lun", "0")
        lunctl("target", "allow", "reader", "--address", "0.0.0.0/0", "--read-only")
        # Sanitize.Reset wants an overwrite that takes more than five seconds, and looks once a minute
        # whether it is over.
        lunctl("disk", "create", "sanitized", "--size", "8GiB")
        lunctl("target", "map", lund.iqn, "sanitized", "--lun", "2")
        paths = [f"iscsi://{portal}/{lund.iqn}/0" for portal in lund.portals]
        with_account = chap.url.replace("://", f"://{ACCOUNT}%{SECRET}@")
        # GetLBAStatus.UnmapSingle is right only where a logical block is a physical block: it wants
        # the status of LBA i+1 to begin at i + the logical blocks of a physical one, and SBC-3 5.8.2
        # wants it to begin where it was asked.
        return check(options, {
            "": paths[:1],
            "MultipathIO": paths,
            "GetLBAStatus": [paths[0].removesuffix("0") + "1"],
            "Sanitize.Reset": [paths[0].removesuffix("0") + "2"],
            "ReadOnly": [f"{paths[0].removesuffix('demo/0')}reader/0"],
            "iSCSICHAP": [with_account],
            # These take every length that there is: as a unit has it that goes as far as it can.
            "CompareAndWrite.Simple": [with_account],
            "CompareAndWrite.Miscompare": [with_account],
        })


def check(options, urls):
    """Runs the tests, by their suites at some of the URLs; 0 if every one does what is expected of
    it."""
    all_tests = tests()
    old = not any(name.startswith("iSCSICHAP.") for name in all_tests)
    if old:
        print("an old iscsi-test-cu without tests of CHAP; see the deps step")
    expected, used = expectations(old), set()
    count, wrong = collections.Counter(), []
    for name, family in all_tests.items():
        if not re.search(options.only, name):
            continue
        begin = time.monotonic()
        paths = urls.get(name) or urls.get(name.split(".")[0], urls[""])
        limit = 4 * LIMIT if name == "Sanitize.Reset" else LIMIT
        outcome, why = run(f"{family}.{name}", paths, limit)
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
