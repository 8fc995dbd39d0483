"""A session by libiscsi, in this process."""

import ctypes

BLOCK = 512


class Lost(Exception):
    """The connection is gone."""


class _Unmap(ctypes.Structure):
    _fields_ = [("lba", ctypes.c_uint64), ("num", ctypes.c_uint32)]


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def load():
    """The library; None where there is none."""
    for version in (11, 10, 9, 8, 7):
        try:
            library = ctypes.CDLL(f"libiscsi.so.{version}")
        except OSError:
            continue
        for name in ("iscsi_create_context", "iscsi_read16_iov_sync", "iscsi_write16_sync",
                     "iscsi_synchronizecache16_sync", "iscsi_unmap_sync"):
            getattr(library, name).restype = ctypes.c_void_p
        library.iscsi_get_error.restype = ctypes.c_char_p
        return library
    return None


class Session:
    """Logged in at `portal`; commands that a unit attention answers are sent again."""

    def __init__(self, library, portal, target, lun):
        self.library, self.lun = library, lun
        self.context = ctypes.c_void_p(library.iscsi_create_context(b"iqn.2026-01.io.lund:power"))
        library.iscsi_set_targetname(self.context, target.encode())
        library.iscsi_set_session_type(self.context, 2)
        library.iscsi_set_header_digest(self.context, 0)
        library.iscsi_set_timeout(self.context, 60)
        library.iscsi_set_noautoreconnect(self.context, 1)
        if library.iscsi_full_connect_sync(self.context, portal.encode(), lun) != 0:
            raise Lost(self._error())

    def _error(self):
        return (self.library.iscsi_get_error(self.context) or b"").decode(errors="replace")

    def _command(self, function, *arguments):
        while True:
            task = function(self.context, self.lun, *arguments)
            if not task:
                raise Lost(self._error())
            status = ctypes.cast(task, ctypes.POINTER(ctypes.c_int)).contents.value
            self.library.scsi_free_scsi_task(ctypes.c_void_p(task))
            if status == 0:
                return
            # 0x0f000000 and more: libiscsi's own, for commands that were cancelled with the connection.
            if status > 0xff:
                raise Lost(self._error())
            if status != 2 or "UNIT" not in self._error():
                raise RuntimeError(f"status {status:#x}: {self._error()}")

    def read(self, lba, blocks):
        data = ctypes.create_string_buffer(blocks * BLOCK)
        vector = _Vector(ctypes.cast(data, ctypes.c_void_p), len(data))
        self._command(self.library.iscsi_read16_iov_sync, ctypes.c_uint64(lba), len(data), BLOCK,
                      0, 0, 0, 0, 0, ctypes.byref(vector), 1)
        return data.raw

    def write(self, lba, data, durable):
        self._command(self.library.iscsi_write16_sync, ctypes.c_uint64(lba), data, len(data), BLOCK,
                      0, 0, int(durable), 0, 0)

    def unmap(self, lba, blocks):
        self._command(self.library.iscsi_unmap_sync, 0, 0, ctypes.byref(_Unmap(lba, blocks)), 1)

    def flush(self):
        self._command(self.library.iscsi_synchronizecache16_sync, ctypes.c_uint64(0), 0, 0, 0)

    def close(self):
        self.library.iscsi_destroy_context(self.context)
