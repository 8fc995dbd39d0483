#!/usr/bin/env python3
"""Differencing VHD and VHDX images, three one over the other, that lund's crate did not make: QEMU makes
the images and writes their data, this program turns them into differencing ones as the specifications say,
libvhdi reads them as Windows would, and lund imports them as a whole; then QEMU finds the same data.

    differencing.py"""

import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from convert import SIZE, call, lunctl, same  # noqa: E402
from lund import Lund, binary  # noqa: E402

BLOCK = 2 << 20
SECTOR = 512
# Of another system than this program's: the package is Debian's.
READER = """
import sys, pyvhdi
files = []
for path in sys.argv[1:]:
    file = pyvhdi.file()
    file.open(path)
    if files:
        file.set_parent(files[-1])
    files.append(file)
size = files[-1].get_media_size()
for at in range(0, size, 1 << 20):
    sys.stdout.buffer.write(files[-1].read_buffer_at_offset(min(1 << 20, size - at), at))
"""


def runs(chance, unit):
    """What one image has of its own: starts, lengths and bytes, all in multiples of `unit`."""
    found = []
    for block in chance.sample(range(SIZE // BLOCK), 6):
        for _ in range(3):
            length = chance.choice([1, 8, 32]) * unit
            start = block * BLOCK + chance.randrange(0, BLOCK - length, unit)
            found.append((start, length, chance.randrange(1, 256)))
    # Whole ones, too.
    whole = chance.randrange(SIZE // BLOCK)
    found.append((whole * BLOCK, BLOCK, chance.randrange(1, 256)))
    return found


def written(written_runs):
    """Sectors of each block that are written."""
    blocks = {}
    for start, length, _ in written_runs:
        for sector in range(start // SECTOR, (start + length) // SECTOR):
            blocks.setdefault(sector * SECTOR // BLOCK, set()).add(sector * SECTOR % BLOCK // SECTOR)
    return blocks


def checked(data, at):
    """A VHD's structure with its checksum at `at`."""
    total = ~(sum(data) - sum(data[at:at + 4])) & 0xffffffff
    return data[:at] + struct.pack(">I", total) + data[at + 4:]


def vhd(path, parent, own):
    """QEMU's dynamic image becomes one that is laid over `parent`: another type, a locator, and bitmaps
    of the sectors that it has."""
    image, below = bytearray(path.read_bytes()), parent.read_bytes()
    footer, header = image[:512], image[512:1536]
    assert footer[:8] == b"conectix" and header[:8] == b"cxsparse" and below[:8] == b"conectix"
    footer[60:64] = struct.pack(">I", 4)
    footer = checked(footer, 64)
    name = ".\\" + parent.name
    header[40:56] = below[68:84]
    header[64:576] = parent.name.encode("utf-16-be").ljust(512, b"\0")
    # QEMU's last sector is the footer: the locator comes before it.
    image, end = image[:-512], len(image) - 512
    value = name.encode("utf-16-le")
    header[576:600] = struct.pack(">4sIIIQ", b"W2ru", 512, len(value), 0, end)
    header = checked(header, 36)
    table, entries, block = struct.unpack(">Q4xII", header[16:36])
    assert block == BLOCK
    own = written(own)
    for number, sector in enumerate(struct.unpack_from(f">{entries}I", image, table)):
        assert (sector != 0xffffffff) == (number in own), number
        if number in own:
            bitmap = bytearray(512)
            for bit in own[number]:
                bitmap[bit // 8] |= 0x80 >> bit % 8
            image[sector * 512:sector * 512 + 512] = bitmap
    image[:512], image[512:1536] = footer, header
    path.write_bytes(image + value.ljust(512, b"\0") + footer)


def data_write_guid(image):
    heads = [image[at:at + 4096] for at in (64 << 10, 128 << 10) if image[at:at + 4] == b"head"]
    return uuid.UUID(bytes_le=bytes(max(heads, key=lambda head: struct.unpack_from("<Q", head, 8))[32:48]))


def regions(image):
    at = 192 << 10
    assert image[at:at + 4] == b"regi"
    (count,) = struct.unpack_from("<I", image, at + 8)
    found = {}
    for entry in range(at + 16, at + 16 + 32 * count, 32):
        offset, _ = struct.unpack_from("<QI", image, entry + 16)
        found[uuid.UUID(bytes_le=bytes(image[entry:entry + 16]))] = offset
    return (found[uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")],
            found[uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")])


def locator(linkage, name):
    """MS-VHDX 2.6.2.6."""
    pairs = [("parent_linkage", f"{{{linkage}}}"), ("relative_path", ".\\" + name),
             ("absolute_win32_path", "C:\\" + name)]
    head = uuid.UUID("b04aefb7-d19e-4a81-b789-25b8e9445913").bytes_le + struct.pack("<HH", 0, len(pairs))
    texts, entries, at = b"", b"", len(head) + 12 * len(pairs)
    for key, value in pairs:
        key, value = key.encode("utf-16-le"), value.encode("utf-16-le")
        entries += struct.pack("<IIHH", at + len(texts), at + len(texts) + len(key), len(key), len(value))
        texts += key + value
    return head + entries + texts


def vhdx(path, parent, own):
    """The same for a VHDX: HasParent, a locator, and blocks that are partially present."""
    image = bytearray(path.read_bytes())
    bat, metadata = regions(image)
    assert image[metadata:metadata + 8] == b"metadata"
    (count,) = struct.unpack_from("<H", image, metadata + 10)
    end = 0
    for entry in range(metadata + 32, metadata + 32 + 32 * count, 32):
        offset, length = struct.unpack_from("<II", image, entry + 16)
        end = max(end, offset + length)
        if uuid.UUID(bytes_le=bytes(image[entry:entry + 16])) == uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b"):
            size, flags = struct.unpack_from("<II", image, metadata + offset)
            assert size == BLOCK
            struct.pack_into("<I", image, metadata + offset + 4, flags | 2)
    item = locator(data_write_guid(parent.read_bytes()), parent.name)
    end = end + 7 & ~7
    image[metadata + end:metadata + end + len(item)] = item
    kind = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c").bytes_le
    image[metadata + 32 + 32 * count:metadata + 64 + 32 * count] = kind + struct.pack("<IIII", end, len(item), 4, 0)
    struct.pack_into("<H", image, metadata + 10, count + 1)
    chunk = (1 << 23) * SECTOR // BLOCK
    assert SIZE // BLOCK <= chunk
    bitmap = bytearray(1 << 20)
    for number, sectors in written(own).items():
        (entry,) = struct.unpack_from("<Q", image, bat + 8 * number)
        assert entry & 7 == 6, (number, entry)
        if len(sectors) < BLOCK // SECTOR:
            struct.pack_into("<Q", image, bat + 8 * number, entry & ~7 | 7)
        for sector in sectors:
            bit = number * (BLOCK // SECTOR) + sector
            bitmap[bit // 8] |= 1 << bit % 8
    image.extend(bytes(-len(image) % (1 << 20)))
    struct.pack_into("<Q", image, bat + 8 * chunk, len(image) | 6)
    path.write_bytes(image + bitmap)


def chain(files, form, chance):
    """Three images, and what they show together."""
    driver, options, over, unit = {
        # Debian's libvhdi takes the bits within a byte of a VHD's bitmap in another order.
        "vhd": ("vpc", ["-o", "force_size=on"], vhd, 8 * SECTOR),
        # Else QEMU says of blocks that are not there that they are zeroes, which hides the parent.
        "vhdx": ("vhdx", ["-o", f"block_size={BLOCK},block_state_zero=off"], vhdx, SECTOR),
    }[form]
    model, images = bytearray(SIZE), []
    for level in range(3):
        image = files / f"{level}.{form}"
        call("qemu-img", "create", "-q", "-f", driver, *options, image, SIZE)
        own = runs(chance, unit)
        commands = [word for start, length, byte in own for word in ("-c", f"write -P {byte} {start} {length}")]
        call("qemu-io", "-f", driver, *commands, image)
        for start, length, byte in own:
            model[start:start + length] = bytes([byte]) * length
        if images:
            over(image, images[-1], own)
        images.append(image)
    return images, model


def refused(lund, image, reason):
    done = subprocess.run([binary("lunctl"), "--server", lund.server, "disk", "import", image, "x"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and reason in done.stderr, (reason, done.stderr)


def main():
    seed = random.randrange(1 << 30)
    print(f"differencing: seed {seed}", flush=True)
    has_reader = subprocess.run(["/usr/bin/python3", "-c", "import pyvhdi"], capture_output=True).returncode == 0
    with tempfile.TemporaryDirectory() as directory:
        files = pathlib.Path(directory, "files").resolve()
        files.mkdir()
        config = pathlib.Path(directory, "lund.toml")
        config.write_text(f"[disks]\nallowed_directories = ['{files}']\n")
        with Lund("--config", config) as lund:
            for form in ("vhd", "vhdx"):
                images, wanted = chain(files, form, random.Random(seed))
                if has_reader:
                    done = subprocess.run(["/usr/bin/python3", "-c", READER, *images], capture_output=True, timeout=120)
                    assert done.stdout == wanted, (form, len(done.stdout), done.stderr)
                model = files / f"{form}-model"
                model.write_bytes(wanted)
                for target in ("raw", "qcow2", form):
                    disk = lunctl(lund, "disk", "import", images[-1], "d", "--to-format", target)
                    assert disk["format"] == target, disk
                    same(model, disk["path"], target)
                    lunctl(lund, "disk", "delete", "d")
                # One of another identity in its parent's place, and none.
                other = files / f"other.{form}"
                images[0].rename(other)
                refused(lund, images[-1], "its parent is not there")
                call("qemu-img", "create", "-q", "-f", {"vhd": "vpc", "vhdx": "vhdx"}[form], images[0], SIZE)
                refused(lund, images[-1], "Parent mismatch")
                by = "libvhdi, and by lund" if has_reader else "lund alone"
                print(f"differencing: three {form} images one over the other are read by {by}", flush=True)


if __name__ == "__main__":
    main()
