//! SAM, SPC and SBC without I/O: the command table, sense data, mode and VPD pages.
