//! The data path: iSCSI connections, sessions, logical units and their I/O.
