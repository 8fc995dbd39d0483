"""What disks and snapshots may hold."""

import struct

BLOCK = 512
RUN = 8


def content(stamp, lba):
    """What a write with this stamp leaves in a block; 0 is what was never written, or unmapped."""
    return struct.pack("<II", stamp, lba) * (BLOCK // 8) if stamp else bytes(BLOCK)


def stamps(data, first):
    """The stamp of each block, -1 for what no write has left."""
    found = []
    for lba, start in enumerate(range(0, len(data), BLOCK), first):
        stamp = struct.unpack_from("<I", data, start)[0]
        found.append(stamp if data[start:start + BLOCK] == content(stamp, lba) else -1)
    return found


class Held:
    """Of each block all that it may hold after a loss of power: the last one is what it holds now, the
    others were not flushed away."""

    def __init__(self, blocks):
        self.blocks = [[0] for _ in range(blocks)]
        self.open = set()

    def put(self, first, count, stamp):
        for lba in range(first, first + count):
            self.blocks[lba].append(stamp)
            self.open.add(lba)

    def settle(self, lbas):
        """These are durable as they are now."""
        for lba in list(lbas):
            del self.blocks[lba][:-1]
            self.open.discard(lba)

    def flushed(self):
        self.settle(self.open)

    def resize(self, blocks):
        if blocks < len(self.blocks):
            del self.blocks[blocks:]
            self.open = {lba for lba in self.open if lba < blocks}
        self.blocks += [[0] for _ in range(blocks - len(self.blocks))]

    def wrong(self, found):
        """The first blocks that hold what they cannot."""
        if len(found) != len(self.blocks):
            return [f"{len(found)} blocks instead of {len(self.blocks)}"]
        wrong = []
        for lba, (stamp, may) in enumerate(zip(found, self.blocks)):
            if stamp not in may:
                wrong.append(f"block {lba} holds {stamp}, may hold {may}")
        return wrong[:8]

    def now_holds(self, found):
        self.blocks = [[stamp] for stamp in found]
        self.open.clear()

    def fork(self):
        """What a snapshot of this moment may hold."""
        other = Held(0)
        other.blocks = [[block[-1]] for block in self.blocks]
        return other

    def copy(self):
        other = Held(0)
        other.blocks = [list(block) for block in self.blocks]
        other.open = {lba for lba, block in enumerate(other.blocks) if len(block) > 1}
        return other
