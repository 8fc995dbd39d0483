//! What the engine's threads and its callers share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use disk_image::Image;
use parking_lot::{Condvar, Mutex, RwLock};

use super::condition;
use super::core::Core;
use super::pace::Turns;
use super::state::State;
use super::{CommitTimes, EngineConfig, LiveImages};
use crate::error::{Cause, ObjectPaths, RequestError};
use crate::faults::Pending;
use crate::id::DiskId;
use crate::job::Element;
use crate::kinds::OperationRunner;

/// A request to the engine's thread.
pub(crate) enum Message {
    /// Do this.
    Call(Box<dyn FnOnce(&mut Core) + Send>),
    /// Look around: time has jumped, or faults wait.
    Wake,
    /// Let the workers come to a boundary, then end.
    Stop,
}

/// How far the subscribers are.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Number of the last change that all subscribers have seen.
    pub(crate) sequence: u64,
    /// The thread that calls them, while there is one.
    pub(crate) thread: Option<ThreadId>,
}

/// The shared part of an engine.
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) paths: ObjectPaths,
    pub(crate) state: Mutex<State>,
    /// Signalled after every change of `state`, and when the engine stops.
    pub(crate) changed: Condvar,
    pub(crate) faults: Mutex<Pending>,
    pub(crate) faults_dropped: AtomicU64,
    pub(crate) stopping: AtomicBool,
    pub(crate) sender: Sender<Message>,
    pub(crate) delivery: Mutex<Delivery>,
    pub(crate) delivered: Condvar,
    /// Bytes a second that all jobs together copy at most; 0 for no limit.
    pub(crate) bandwidth: AtomicU64,
    pub(crate) turns: Mutex<Turns>,
    pub(crate) commit_times: CommitTimes,
    pub(crate) live: RwLock<Option<Arc<dyn LiveImages>>>,
    /// Who carries out operations on disks in use, once he is there.
    pub(crate) runner: Mutex<Option<Arc<dyn OperationRunner>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.config.directory.display())
    }
}

impl Shared {
    pub(crate) fn new(config: EngineConfig, state: State, sender: Sender<Message>) -> Arc<Self> {
        let bandwidth = config.bandwidth.unwrap_or(0);
        Arc::new(Self {
            paths: ObjectPaths::new(config.system_name.clone()),
            config,
            state: Mutex::new(state),
            changed: Condvar::new(),
            faults: Mutex::new(Pending { faults: HashMap::new() }),
            faults_dropped: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            sender,
            delivery: Mutex::new(Delivery::default()),
            delivered: Condvar::new(),
            bandwidth: AtomicU64::new(bandwidth),
            turns: Mutex::default(),
            commit_times: CommitTimes::default(),
            live: RwLock::default(),
            runner: Mutex::new(None),
        })
    }

    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.config.clock.now()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The disk's image, if the data path has it open.
    pub(crate) fn live_image(&self, disk: &DiskId) -> Option<Arc<dyn Image>> {
        let live = self.live.read().clone();
        live?.image(disk)
    }

    /// Runs `work` on the engine's thread. `None` if that has ended.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Option<R> {
        let (reply, result): (SyncSender<R>, _) = sync_channel(1);
        let message = Message::Call(Box::new(move |core| {
            // A caller that has gone does not need the answer.
            let _ = reply.send(work(core));
        }));
        self.sender.send(message).ok()?;
        result.recv().ok()
    }

    /// [`Shared::call`] for a client: refused while stopping, and back only when every subscriber
    /// has seen what it did.
    pub(crate) fn request<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> Result<R, RequestError> + Send + 'static,
    ) -> Result<R, RequestError> {
        if self.is_stopping() {
            return Err(self.refuse(Cause::ShuttingDown, None));
        }
        let condition = condition::take();
        let done = self.call(move |core| {
            let result = match condition {
                Some(holds) if !holds() => Err(core.refuse(Cause::ChangedMeanwhile, None)),
                Some(_) | None => work(core),
            };
            (result, core.sequence())
        });
        let Some((result, sequence)) = done else {
            return Err(self.refuse(Cause::ShuttingDown, None));
        };
        self.wait_delivered(sequence);
        result
    }

    /// Waits until subscribers have seen all changes up to `sequence`.
    pub(crate) fn wait_delivered(&self, sequence: u64) {
        let mut delivery = self.delivery.lock();
        while let Some(thread) = delivery.thread
            && thread != std::thread::current().id()
            && delivery.sequence < sequence
        {
            self.delivered.wait(&mut delivery);
        }
    }

    /// The answer to a request that is refused.
    pub(crate) fn refuse(&self, cause: Cause, element: Option<&Element>) -> RequestError {
        let error = cause.to_cim_error(element, &self.paths);
        RequestError::new(cause, error)
    }

    /// Waits until `ready` holds for the state, or `timeout` has passed; `None` waits for ever.
    pub(crate) fn wait_until<R>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&State) -> Option<R>,
    ) -> Option<R> {
        // A time-out beyond what the system's clock can say is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state.lock();
        loop {
            if let Some(result) = ready(&state) {
                return Some(result);
            }
            match deadline {
                Some(deadline) => {
                    if self.changed.wait_until(&mut state, deadline).timed_out() {
                        return ready(&state);
                    }
                }
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Waits until the database can be written again. `false` if the engine stops first.
    pub(crate) fn wait_for_store(&self) -> bool {
        let up = self.wait_until(None, |state| {
            if self.is_stopping() {
                Some(false)
            } else {
                state.store_down.is_none().then_some(true)
            }
        });
        up.unwrap_or(false)
    }
}
