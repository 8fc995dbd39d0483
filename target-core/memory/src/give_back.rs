//! What the allocator keeps for later.
#![allow(unsafe_code, reason = "a call of the C library")]

/// Gives memory that is free back to the system. The C library does so by itself only at the end of its
/// heaps: after many sessions have come and gone, what is free lies in between. Takes milliseconds, in
/// which others wait that allocate. Does nothing where the library has no such call.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time from any thread (malloc_trim(3): MT-Safe).
    unsafe {
        libc::malloc_trim(0);
    }
}
