"""What an image format costs: 4 KiB reads and writes of blocks that are allocated, on a raw disk
and on one of each other format, in turns; and beside each other format tgt over QEMU's driver."""

import contextlib
import statistics

from scale import Rest, Served, TARGET
from servers import Lund, TgtOverQemu, why_no_qemu

FORMATS = ("raw", "qcow2", "vhdx")
CELLS = ((4096, "randread", 32, 1), (4096, "randread", 32, 4), (4096, "randwrite", 32, 1),
         (4096, "randwrite", 32, 4))
# The least that the others have to reach of the raw disk's IOPS.
WANTED = 0.8
# And of what tgt over QEMU's driver for the format does.
WANTED_OF_QEMU = 2


class Disk(Served):
    """A disk of one format, and the image behind it."""

    def __init__(self, lund, lun, name, image):
        super().__init__(lund, lun)
        self.name, self.image = name, image


def make(lund, size):
    """A disk of each format, all behind one target."""
    rest = Rest(lund.server)
    rest("POST", "/targets", {"name": TARGET})
    disks = []
    for lun, kind in enumerate(FORMATS):
        name = f"of-{kind}"
        job = rest("POST", "/disks", {"name": name, "size_bytes": size, "format": kind})
        rest("GET", f"/jobs/{job['id']}?wait_seconds=60")
        rest("POST", f"/targets/{TARGET}/luns", {"disk": name, "lun": lun})
        image = rest("GET", f"/disks/{name}")["path"]
        disks.append(Disk(lund, lun, kind, image))
    return disks


def measure(directory, loadgen, cells, size, rounds, seconds):
    """{cell: {disk: {iops, ratio}}}; the ratio is that to the raw disk in the same round, or for
    tgt lund's to it."""
    why = why_no_qemu()
    if why:
        print(f"without tgt over QEMU's drivers: {why}")
    with contextlib.ExitStack() as stack:
        disks = make(stack.enter_context(Lund(data_dir=directory / "formats")), size)
        peers = [] if why else [stack.enter_context(TgtOverQemu(directory, size, kind))
                                for kind in FORMATS if kind != "raw"]
        every = disks + peers
        for disk in every:
            loadgen.fill(disk)
        found = {cell: {disk.name: [] for disk in every} for cell in cells}
        for number in range(rounds):
            for place, cell in enumerate(cells):
                turn = (number + place) % len(every)
                for disk in every[turn:] + every[:turn]:
                    found[cell][disk.name].append(loadgen.measure(disk, cell, seconds)["iops"])
    report = {}
    for cell, by in found.items():
        row = {disk.name: {"iops": statistics.median(by[disk.name]),
                           "ratio": ratio(by[disk.name], by["raw"])} for disk in disks}
        texts = [f"{disk.name} {row[disk.name]['ratio']:.2f} of it" for disk in disks[1:]]
        short = any(one["ratio"] < WANTED for one in row.values())
        for peer in peers:
            one = {"iops": statistics.median(by[peer.name]),
                   "ratio": ratio(by[peer.kind], by[peer.name])}
            texts.append(f"{peer.kind} {one['ratio']:.1f} times {peer.name}")
            short |= one["ratio"] < WANTED_OF_QEMU
            row[peer.name] = one
        report[str(cell)] = row
        print(f"{cell}: raw {row['raw']['iops']:.0f} IOPS, {', '.join(texts)}"
              + ": too little" * short)
    return report


def ratio(these, those):
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(these, those))
