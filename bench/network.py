"""A network of this process's own, in which TCP's congestion control is another one than the system's."""

import fcntl
import os
import pathlib
import shutil
import socket
import struct
import sys

CONGESTION = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")
INSIDE = "LUND_BENCH_NETWORK"
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def congestion():
    """That of new connections."""
    return CONGESTION.read_text().strip()


def enter(name):
    """Goes on in a network where `name` is the congestion control; starts the program again for that."""
    if name == congestion():
        return
    if os.environ.get(INSIDE):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loopback:
            fcntl.ioctl(loopback, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
        try:
            CONGESTION.write_text(name)
        except OSError as error:
            sys.exit(f"--congestion {name}: {error.strerror}; see tcp_allowed_congestion_control")
        return
    unshare = shutil.which("unshare")
    if os.geteuid() or not unshare:
        sys.exit("--congestion wants a network of its own: root, and util-linux's unshare")
    os.environ[INSIDE] = "1"
    os.execv(unshare, [unshare, "--net", sys.executable, *sys.argv])
