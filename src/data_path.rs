//! The threads that serve initiators: a runtime of their own, which goes first.
//!
//! Of many initiators one may keep all processors busy, and others on the machine may, too. A command
//! that comes then shall not wait for whole slices of the scheduler.

use std::num::NonZero;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

/// The runtime. It must not be dropped inside of another one.
pub(crate) fn start(nice: i32) -> anyhow::Result<Runtime> {
    // One thread stays out of writes, so that a disk that hangs stops nothing else.
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    Builder::new_multi_thread()
        .worker_threads(cores + 1)
        // Each disk that hangs takes 16 of them.
        .max_blocking_threads(4096)
        .enable_all()
        .thread_name("lund")
        .on_thread_start(move || go_first(nice))
        .build()
        .context("cannot start the runtime")
}

/// Linux keeps the priority of each thread by itself, and this is the one of the caller. Who has started the
/// daemon may have given it more.
fn go_first(nice: i32) {
    if rustix::process::getpriority_process(None).is_ok_and(|now| now <= nice) {
        return;
    }
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!(%error, nice, "threads that serve initiators do not go first");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    fn of_threads(wanted: i32) -> [i32; 2] {
        let runtime = start(wanted).unwrap();
        let task = runtime.block_on(runtime.spawn(async { nice() })).unwrap();
        let blocking = runtime.block_on(runtime.spawn_blocking(nice)).unwrap();
        [task, blocking]
    }

    #[test]
    fn its_threads_go_first_where_they_may_and_no_others() {
        let before = nice();
        // Without the privilege it is as it was.
        let raised = move || rustix::process::setpriority_process(None, before - 1).is_ok();
        let may = std::thread::spawn(raised).join().unwrap();
        let expected = if may { before - 1 } else { before };
        assert_eq!(of_threads(before - 1), [expected; 2]);
        assert_eq!(nice(), before);
        assert_eq!(of_threads(before + 1), [before; 2], "they give nothing up");
    }
}
