//! The threads of the management: a runtime of their own, which gives way to the data path. A list of
//! ten thousand jobs is some hundred milliseconds of work, and no initiator shall wait for that.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle, Runtime};

/// Where a processor is wanted by more than have room on it, such a thread gets a tenth of what
/// one of the data path gets.
const NICE: i32 = 10;
/// Requests that wait for jobs hold one each.
const MAX_THREADS: usize = 1024;

/// The runtime; it must not be dropped inside of another one.
pub(crate) struct Management(Option<Runtime>);

impl Management {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(MAX_THREADS)
            .enable_all()
            .thread_name("lund-mgmt")
            .on_thread_start(give_way)
            .build()
            .context("cannot start the management's runtime")?;
        Ok(Self(Some(runtime)))
    }

    /// # Errors
    /// It has ended.
    pub(crate) fn handle(&self) -> anyhow::Result<Handle> {
        let runtime = self.0.as_ref().context("the management has ended")?;
        Ok(runtime.handle().clone())
    }
}

impl Drop for Management {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// Linux keeps the priority of each thread by itself, and this is the one of the caller.
fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the management's threads do not give way");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_threads_give_way_and_no_others() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let management = Management::start().unwrap();
        let handle = management.handle().unwrap();
        let task = handle.block_on(handle.spawn(async move { nice() })).unwrap();
        let blocking = handle.block_on(handle.spawn_blocking(nice)).unwrap();
        assert_eq!((task, blocking, nice()), (before + NICE, before + NICE, before));
    }
}
