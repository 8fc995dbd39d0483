//! RFC 7143 without I/O: PDUs, login, sessions, digests.
