//! Disk image formats over positional file I/O.
