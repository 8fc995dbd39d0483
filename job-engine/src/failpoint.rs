//! Places where a test may kill the process.
