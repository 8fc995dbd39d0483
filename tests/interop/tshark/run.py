#!/usr/bin/env python3
"""tshark reads lund's sessions: captures of the network, logins included, and lund's own traces.
No PDU may be malformed and nothing may be an error to its experts.

    run.py [--keep DIRECTORY]     keeps the captures there"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lund import Lund, binary  # noqa: E402

PATIENCE = 60
# Captures in which TCP disturbed nothing are the rule.
ATTEMPTS = 3
# Every one of them ends well: PDUs that are wrong on purpose would be malformed, rightly.
SUITES = ["SCSI.Read10.Simple", "SCSI.Read16.Residuals", "SCSI.Write10.Simple", "SCSI.WriteSame10.Simple",
          "SCSI.Unmap.Simple", "SCSI.CompareAndWrite.Simple", "SCSI.Inquiry", "SCSI.ModeSense6",
          "SCSI.PrinReadKeys", "SCSI.ProutRegister", "SCSI.ReceiveCopyResults", "iSCSI.iSCSITMF"]
FIELDS = ["frame.number", "iscsi.opcode", "iscsi.datasegmentlength", "iscsi.request_frame",
          "iscsi.scsicommand.expecteddatatransferlength", "_ws.expert.severity", "_ws.malformed"]
ERROR = 0x00800000  # PI_ERROR


def say(text):
    print(f"tshark: {text}", flush=True)


def wait_for(what, is_so):
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {PATIENCE} s")
        time.sleep(0.02)


def call(*words, status=0):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300)
    if status is not None and done.returncode != status:
        sys.exit(f"{words}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


class Retransmitted(Exception):
    """On a busy machine TCP sends again what has come, in other pieces; tshark cannot put those
    together, so nothing is known of the PDUs in them."""


def judge(capture, port):
    """Opcodes and how often they were seen; anything malformed or erroneous ends the test."""
    words = ["tshark", "-r", capture, "-d", f"tcp.port=={port},iscsi", "-T", "json"]
    for field in FIELDS:
        words += ["-e", field]
    opcodes = collections.Counter()
    expected = {}  # Expected Data Transfer Lengths in a frame
    for packet in json.loads(call(*words)):
        layers = packet["_source"]["layers"]
        frame = layers["frame.number"][0]
        expected[frame] = layers.get("iscsi.scsicommand.expecteddatatransferlength", [])
        for opcode in layers.get("iscsi.opcode", []):
            opcodes[int(opcode, 0)] += 1
        bad = [s for s in layers.get("_ws.expert.severity", []) if int(s, 0) >= ERROR]
        if any("protocol TCP" in text for text in layers.get("_ws.malformed", [])):
            raise Retransmitted(f"{capture}: frame {frame}: {layers}")
        if (bad or "_ws.malformed" in layers) and not is_cut_short(layers, expected):
            sys.exit(f"{capture}: frame {frame}: {layers}")
    return opcodes


def is_cut_short(layers, expected):
    """tshark's SCSI dissector calls parameter data malformed that ends where the initiator's
    allocation length does, in the midst of a descriptor; SPC-4 4.2.5.6 asks for just that."""
    if not any("Malformed Packet: SCSI" in text for text in layers.get("_ws.malformed", [])):
        return False
    if len(layers["iscsi.opcode"]) != 1 or "iscsi.request_frame" not in layers:
        return False
    lengths = [int(length, 0) for length in expected.get(layers["iscsi.request_frame"][0], [])]
    return int(layers["iscsi.datasegmentlength"][0], 0) in lengths


class Capture:
    """What goes over the loopback device from and to one port."""

    def __init__(self, path, port):
        self.path, self.port = path, port

    def __enter__(self):
        words = ["dumpcap", "-q", "-i", "lo", "-B", "64", "-f", f"tcp port {self.port}", "-w", str(self.path)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        # It says so when it captures.
        for line in self.process.stderr:
            if line.startswith("File:"):
                return self
        print(f"dumpcap cannot capture here (status {self.process.wait()})")
        sys.exit(77)

    def __exit__(self, kind, value, trace):
        # What has been sent is in the file once a packet that is sent now is.
        size = -1
        while size != self.path.stat().st_size:
            size = self.path.stat().st_size
            time.sleep(1)
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)


def captured(lund, capture):
    """Opcodes that such sessions have."""
    port = lund.portal.rsplit(":", 1)[1]
    with Capture(capture, port):
        call("iscsi-ls", "-s", lund.url.rsplit("/", 2)[0])
        call("iscsi-inq", lund.url)
        for suite in SUITES:
            call("iscsi-test-cu", "-d", "-t", suite, lund.url, status=None)
        call("qemu-io", "-f", "raw", "-c", "write -P 5 0 4M", "-c", "read -P 5 0 4M", "-c", "discard 0 4M", lund.url)
        for digest in ("crc32c", "crc32c-none"):
            call("qemu-io", "--image-opts",
                 f"driver=iscsi,transport=tcp,portal={lund.portal},target={lund.iqn},lun=0,header-digest={digest}",
                 "-c", "write -P 6 1M 1M", "-c", "read -P 6 1M 1M")
    return judge(capture, port)


def sessions(lund, directory):
    """Whole sessions of libiscsi and QEMU, with digests too."""
    for attempt in range(1, ATTEMPTS + 1):
        capture = directory / f"sessions-{attempt}.pcapng"
        try:
            opcodes = captured(lund, capture)
            break
        except Retransmitted as spoilt:
            say(f"captured again: {spoilt}")
    else:
        sys.exit(f"none of {ATTEMPTS} captures is whole")
    # Login, text, SCSI, task management, Data-Out, logout and their answers, R2T.
    wanted = {0x03, 0x23, 0x04, 0x24, 0x01, 0x21, 0x02, 0x22, 0x05, 0x25, 0x06, 0x26, 0x31}
    missing = sorted(wanted - set(opcodes))
    if missing:
        sys.exit(f"{capture} lacks opcodes {[hex(code) for code in missing]}: {opcodes}")
    say(f"{sum(opcodes.values())} PDUs of {len(opcodes)} kinds in captured sessions, none malformed, no error")


def traces(lund, directory):
    """A trace that is switched on in the midst of a session."""
    port = lund.portal.rsplit(":", 1)[1]
    client = subprocess.Popen(["qemu-io", "-f", "raw", lund.url], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)

    def run(command, says):
        client.stdin.write(command + "\n")
        client.stdin.flush()
        for line in client.stdout:
            if says in line:
                return
        sys.exit(f"qemu-io ended at `{command}`")

    run("write -P 1 0 1M", "wrote")
    lunctl = [str(binary("lunctl")), "--server", lund.server]
    listed = json.loads(call(*lunctl, "session", "list", "--json"))
    tsih = str(listed[0]["tsih"])
    trace = directory / "trace.pcapng"
    words = [*lunctl, "session", "trace", tsih, "--output", str(trace)]
    taken = subprocess.Popen(words)
    wait_for("the trace begins", lambda: trace.exists() and trace.stat().st_size > 0)
    before = json.loads(call(*lunctl, "session", "show", tsih, "--json"))["counters"]
    for number in range(8):
        run(f"write -P 2 {number}M 1M", "wrote")
        run(f"read -P 2 {number}M 1M", "read")
    # Counters are published behind the answers.
    reads = before["read_commands"] + 8

    def shown():
        return json.loads(call(*lunctl, "session", "show", tsih, "--json"))["counters"]

    wait_for("the counters", lambda: shown()["read_commands"] >= reads)
    after = shown()
    # Without a last flush and a logout, which would come behind the counters.
    client.kill()
    client.wait(timeout=PATIENCE)
    if taken.wait(timeout=PATIENCE) != 0:
        sys.exit("lunctl session trace failed")
    opcodes = judge(trace, port)
    for name, codes in (("received", range(0x00, 0x20)), ("sent", range(0x20, 0x40))):
        seen = sum(opcodes[code] for code in codes)
        counted = after[f"pdus_{name}"] - before[f"pdus_{name}"]
        if seen != counted:
            sys.exit(f"tshark saw {seen} PDUs {name}, lund counted {counted}: {opcodes}")
    say(f"{sum(opcodes.values())} PDUs in a trace of lund's own, as many as it counted, none malformed, no error")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, Lund("--demo", "--demo-size", "128MiB") as lund:
        directory = options.keep or pathlib.Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        os.chmod(directory, 0o755)
        traces(lund, directory)
        sessions(lund, directory)


if __name__ == "__main__":
    main()
