//! A copy that ends where memory is gone.
//!
//! It is one instruction (`rep movsb`), whose registers say how far it came, so that the handler of
//! SIGBUS has but one address to know: a thread that was there goes on behind it. SIGBUS from
//! anywhere else goes to whoever handled it before.
#![allow(unsafe_code, reason = "an instruction and a signal handler")]

/// Bytes that should be there are gone: the file was cut, or its device has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

#[cfg(target_arch = "x86_64")]
mod machine {
    use std::arch::global_asm;
    use std::io;
    use std::mem::MaybeUninit;
    use std::ptr;
    use std::sync::OnceLock;

    use libc::{c_int, c_void, sigaction, siginfo_t, ucontext_t};

    // extern "C" fn(to: rdi, from: rsi, length: rdx) -> rax: what is left.
    // The direction flag is clear wherever C's rules hold; no other state is used.
    global_asm!(
        ".pushsection .text.lund_pinned_copy, \"ax\", @progbits",
        ".hidden lund_pinned_copy",
        ".globl lund_pinned_copy",
        ".type lund_pinned_copy, @function",
        "lund_pinned_copy:",
        ".cfi_startproc",
        "mov rcx, rdx",
        ".hidden lund_pinned_copy_moves",
        ".globl lund_pinned_copy_moves",
        "lund_pinned_copy_moves:",
        "rep movsb",
        ".hidden lund_pinned_copy_ends",
        ".globl lund_pinned_copy_ends",
        "lund_pinned_copy_ends:",
        "mov rax, rcx",
        "ret",
        ".cfi_endproc",
        ".size lund_pinned_copy, . - lund_pinned_copy",
        ".popsection",
    );

    unsafe extern "C" {
        pub(super) fn lund_pinned_copy(to: *mut u8, from: *const u8, length: usize) -> usize;
        static lund_pinned_copy_moves: u8;
        static lund_pinned_copy_ends: u8;
    }

    /// Who handled SIGBUS before; Rust's own runtime, as a rule.
    static BEFORE: OnceLock<sigaction> = OnceLock::new();

    extern "C" fn sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        const RIP: usize = libc::REG_RIP as usize;
        // SAFETY: with SA_SIGINFO the kernel passes the interrupted thread's ucontext_t, which is
        // this handler's alone until it returns.
        let context_of_thread = unsafe { context.cast::<ucontext_t>().as_mut() };
        let registers = context_of_thread.map(|it| &mut it.uc_mcontext.gregs);
        if let Some(rip) = registers.and_then(|it| it.get_mut(RIP)) {
            // Addresses of code, of which nothing is read.
            let moves = (&raw const lund_pinned_copy_moves).addr();
            let ends = (&raw const lund_pinned_copy_ends).addr();
            if usize::try_from(*rip) == Ok(moves) {
                *rip = i64::try_from(ends).unwrap_or(*rip);
                return;
            }
        }
        pass_on(signal, info, context);
    }

    /// Has whoever handled it before handle it. Calls nothing that a signal handler must not.
    fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // A handler that comes before BEFORE is set finds the default, which ends the program.
        match BEFORE.get() {
            Some(before) if before.sa_flags & libc::SA_SIGINFO != 0 => {
                // SAFETY: SA_SIGINFO says that the address is that of such a function (never one of
                // the two constants, which come without it), and it gets what the kernel gave.
                let handler = unsafe {
                    std::mem::transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(
                        before.sa_sigaction,
                    )
                };
                handler(signal, info, context);
            }
            Some(before) if !matches!(before.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) => {
                // SAFETY: neither of the constants, and without SA_SIGINFO: a function of one number.
                let handler = unsafe {
                    std::mem::transmute::<usize, extern "C" fn(c_int)>(before.sa_sigaction)
                };
                handler(signal);
            }
            // The instruction fails once more behind this, and ends the program.
            Some(_) | None => {
                // SAFETY: a valid signal and disposition; async-signal-safe (POSIX).
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
        }
    }

    /// Has the handler in place, once and for the whole program.
    pub(super) fn install() -> io::Result<()> {
        static DONE: OnceLock<Result<(), i32>> = OnceLock::new();
        let done = DONE.get_or_init(|| {
            let mut before = MaybeUninit::<sigaction>::zeroed();
            // SAFETY: a null new action asks for the present one, which is written to `before`.
            if unsafe { sigaction(libc::SIGBUS, ptr::null(), before.as_mut_ptr()) } != 0 {
                return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
            }
            // SAFETY: the call above has filled it.
            let _ = BEFORE.set(unsafe { before.assume_init() });
            // SAFETY: all zeroes are a valid sigaction.
            let mut action = unsafe { MaybeUninit::<sigaction>::zeroed().assume_init() };
            action.sa_sigaction = sigbus as *const () as usize;
            // As Rust's own, whose stack for signals it may need.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: a handler that calls nothing but what may be called there, see `sigbus`.
            if unsafe { sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
                return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
            }
            Ok(())
        });
        done.map_err(io::Error::from_raw_os_error)
    }
}

/// Must have succeeded before anything is copied.
pub(crate) fn prepare() -> std::io::Result<()> {
    #[cfg(target_arch = "x86_64")]
    return machine::install();
    #[cfg(not(target_arch = "x86_64"))]
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Fills `into` with what stands at `from`.
///
/// # Safety
/// As many bytes from there on belong to a mapping that stays as long as this runs, and that nobody
/// has a Rust reference into; [`prepare`] has succeeded.
pub(crate) unsafe fn copy(into: &mut [u8], from: *const u8) -> Result<(), Lost> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: `into` is writable, the caller vouches for `from`, and a mapping that cannot be
        // written through no reference of this program can overlap `into`.
        let left = unsafe { machine::lund_pinned_copy(into.as_mut_ptr(), from, into.len()) };
        if left == 0 { Ok(()) } else { Err(Lost) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (into, from);
        Err(Lost)
    }
}
