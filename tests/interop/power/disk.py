"""A disk that loses power: an NBD server whose writes are in a volatile cache until they are flushed.

What the guest's kernel has not flushed, a real disk may have written or not, each sector on its own
and in any order. `lose_power` decides that by chance; until then some sectors reach the medium early,
so that what is left may be of any time since the last flush."""

import os
import socket
import struct
import threading

SECTOR = 512
MAGIC, OPTION, REPLY = 0x4e42444d41474943, 0x49484156454F5054, 0x3e889045565a9
REQUEST, SIMPLE = 0x25609513, 0x67446698
EXPORT_NAME, ABORT, INFO, GO = 1, 2, 6, 7
ACK, INFORMATION, UNSUPPORTED = 1, 3, 0x80000001
HAS_FLAGS, SEND_FLUSH, SEND_FUA = 1, 4, 8
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
FUA = 1


class Disk:
    """Serves `image` at the UNIX socket `address`; `chance` is a random.Random."""

    def __init__(self, image, address, chance):
        self.file = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.file).st_size
        self.chance = chance
        self.volatile = {}
        self.flushes = self.lost = self.kept = 0
        self.failure = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(address))
        self.listener.listen()
        self.thread = None

    def serve(self):
        """Takes the next client, on a thread of its own."""
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def lose_power(self, loses=True):
        """After the client is gone. Without `loses`, everything reaches the medium."""
        self.thread.join(60)
        if self.thread.is_alive() or self.failure:
            raise RuntimeError(f"the disk's server: {self.failure or 'it has a client still'}")
        # Now nothing is lost, now nearly all, and often something of both.
        kept = self.chance.choice([0.0, 0.1, 0.5, 0.9, 1.0]) if loses else 1.0
        for sector, data in self.volatile.items():
            if self.chance.random() < kept:
                self._put(sector, data)
                self.kept += 1
            else:
                self.lost += 1
        self.volatile.clear()

    def close(self):
        self.listener.close()
        os.close(self.file)

    def _serve(self):
        client, _ = self.listener.accept()
        with client:
            try:
                if self._greet(client):
                    self._answer(client)
            except (EOFError, ConnectionError):
                pass
            except Exception as error:  # noqa: BLE001, told by lose_power
                self.failure = repr(error)

    def _greet(self, client):
        client.sendall(struct.pack(">QQH", MAGIC, OPTION, 1))
        exact(client, 4)
        flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA
        while True:
            magic, option, length = struct.unpack(">QII", exact(client, 16))
            exact(client, length)
            if magic != OPTION:
                raise ValueError("no NBD client")

            def reply(kind, data=b"", option=option):
                client.sendall(struct.pack(">QIII", REPLY, option, kind, len(data)) + data)

            if option in (INFO, GO):
                reply(INFORMATION, struct.pack(">HQH", 0, self.size, flags))
                reply(ACK)
                if option == GO:
                    return True
            elif option == EXPORT_NAME:
                client.sendall(struct.pack(">QH124x", self.size, flags))
                return True
            elif option == ABORT:
                reply(ACK)
                return False
            else:
                reply(UNSUPPORTED)

    def _answer(self, client):
        while True:
            magic, flags, kind, cookie, offset, length = struct.unpack(">IHHQQI", exact(client, 28))
            if magic != REQUEST:
                raise ValueError("no request")
            answer = b""
            if kind == READ:
                answer = self._read(offset, length)
            elif kind == WRITE:
                self._write(offset, exact(client, length), flags & FUA)
            elif kind == FLUSH:
                self._flush()
            elif kind == DISCONNECT:
                return
            else:
                raise ValueError(f"request {kind} was not offered")
            client.sendall(struct.pack(">IIQ", SIMPLE, 0, cookie) + answer)

    def _read(self, offset, length):
        data = bytearray(os.pread(self.file, length, offset))
        if self.volatile:
            first = offset // SECTOR
            for number in range(length // SECTOR):
                newer = self.volatile.get(first + number)
                if newer is not None:
                    data[number * SECTOR:(number + 1) * SECTOR] = newer
        return bytes(data)

    def _write(self, offset, data, durable):
        if durable:
            os.pwrite(self.file, data, offset)
        for start in range(0, len(data), SECTOR):
            sector = (offset + start) // SECTOR
            if durable:
                self.volatile.pop(sector, None)
                continue
            older = self.volatile.get(sector)
            if older is not None and self.chance.random() < 0.25:
                self._put(sector, older)
            self.volatile[sector] = data[start:start + SECTOR]

    def _flush(self):
        self.flushes += 1
        for sector, data in self.volatile.items():
            self._put(sector, data)
        self.volatile.clear()

    def _put(self, sector, data):
        os.pwrite(self.file, data, sector * SECTOR)


def exact(client, length):
    """So many bytes."""
    parts = []
    while length:
        part = client.recv(min(length, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
