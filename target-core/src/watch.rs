//! Keeps sessions served while threads of the runtime hang in writes.
//!
//! A write to the page cache runs on the thread that runs its connection, and may hang. So before
//! it writes, a thread leaves the connection on its [`Desk`], and takes it back afterwards. A
//! thread of its own, the watch, looks at the desks while there is something on them: of a write
//! that hangs it takes the connection away, which goes on as another task, as if the write had been
//! handed off.
//!
//! The watch then also has one of the runtime's threads look at sockets. One of them waits for those,
//! and runs what they bring; if that hangs, the others sleep on until something wakes one of them.
//! Not before: two threads that look at sockets wake for everything that comes, and the one that
//! writes would never have them for itself.
//!
//! A thread locks its own desk alone; nobody waits for another one there. Of several writes it makes
//! in one visit it tells which one it is at: with one atomic operation each, in which it also finds
//! out whether the connection has gone on without it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::connection::Sender;
use iscsi_proto::session::TaskId;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::clock::Milliseconds;
use crate::connection::{Connection, Message, Outcome};
use crate::io::{Completion, Output, WorkError};
use crate::spare::{MayHang, Spare};
use crate::statistics::Kind;
use crate::unit::LogicalUnit;

/// The desks are looked at so often.
const PERIOD: Duration = Duration::from_millis(10);
/// A write that is seen so often hangs.
const LOOKS: u32 = 2;
/// Instead of what is written: the connection has gone on.
const GONE: usize = usize::MAX;

/// Orders that are one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// How many orders came before.
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Call {
    /// As one number, which is not [`GONE`]: there are few orders.
    const fn packed(self) -> usize {
        self.first << 16 | self.count & 0xffff
    }

    const fn unpacked(packed: usize) -> Self {
        Self { first: packed >> 16, count: packed & 0xffff }
    }
}

thread_local! {
    static DESK: RefCell<Option<Arc<Desk>>> = const { RefCell::new(None) };
}

/// The watch over the threads of one runtime.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    number: u64,
    /// Something was put on a desk. Of many writes in one period the first alone sets it.
    marked: AtomicBool,
    desks: Mutex<Vec<Weak<Desk>>>,
    spare: Spare,
    /// None if the system has no thread left.
    thread: OnceLock<Option<Thread>>,
}

/// Where a thread leaves a connection while it writes.
#[derive(Debug)]
#[repr(align(64))] // not in one cache line with another thread's
pub(crate) struct Desk {
    state: Mutex<State>,
    /// Which [`Call`] the thread is at, or [`GONE`].
    at: AtomicUsize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct State {
    left: Option<Box<Connection>>,
    /// The write at which the watch has seen it, and how often.
    seen: usize,
    looks: u32,
    orphan: Option<Orphan>,
}

/// A write that hangs, and whom to tell when it ends after all.
#[derive(Debug)]
pub(crate) struct Orphan {
    /// Which of the orders it begins with.
    pub(crate) first: usize,
    /// The command of each, and the bytes that it holds.
    pub(crate) parts: Vec<(TaskId, usize)>,
    pub(crate) unit: Arc<LogicalUnit>,
    pub(crate) reply: Sender,
    /// Since when it is known to hang.
    pub(crate) since: Instant,
}

impl Watch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(Arc::new(Shared {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            marked: AtomicBool::new(false),
            desks: Mutex::default(),
            spare: Spare::new(),
            thread: OnceLock::new(),
        }))
    }

    /// Gives this thread of the runtime a desk, for [`at_desk`].
    pub(crate) fn sit_down(&self) {
        let sits = |desk: &Option<Arc<Desk>>| {
            desk.as_ref().map(|desk| desk.shared.number) == Some(self.0.number)
        };
        if !DESK.with_borrow(sits) {
            self.0.sit_down();
        }
    }
}

impl Shared {
    #[cold]
    fn sit_down(self: &Arc<Self>) {
        let desk = Arc::new(Desk {
            state: Mutex::default(),
            at: AtomicUsize::new(0),
            shared: self.clone(),
        });
        let mut desks = self.desks.lock();
        desks.retain(|desk| desk.strong_count() > 0);
        desks.push(Arc::downgrade(&desk));
        drop(desks);
        DESK.set(Some(desk));
    }

    #[cold]
    fn start(self: &Arc<Self>) {
        self.marked.store(true, Ordering::Release);
        let thread = self.thread.get_or_init(|| {
            let (shared, runtime) = (Arc::downgrade(self), Handle::current());
            let thread = thread::Builder::new().name("lund-watch".to_owned());
            let thread = thread.spawn(move || run(&shared, &runtime));
            let started = thread.inspect_err(|error| tracing::error!(%error, "no watch"));
            started.ok().map(|started| started.thread().clone())
        });
        if let Some(thread) = thread {
            thread.unpark();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(Some(thread)) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Does something with this thread's desk; `None` without one.
pub(crate) fn at_desk<T>(with: impl FnOnce(&Desk) -> T) -> Option<T> {
    DESK.with_borrow(|desk| desk.as_deref().map(with))
}

impl Desk {
    /// Whether this thread may hang now, see [`Spare::may_hang`].
    pub(crate) fn may_hang(&self) -> Option<MayHang<'_>> {
        self.shared.spare.may_hang()
    }

    /// Leaves a connection here while this thread writes for it, the first of its orders now.
    pub(crate) fn leave(&self, connection: Box<Connection>, call: Call) {
        let mut state = self.state.lock();
        (state.left, state.seen, state.looks) = (Some(connection), GONE, 0);
        self.at.store(call.packed(), Ordering::Relaxed);
        drop(state);
        // The watch takes the mark away before it looks at a desk: if it has not seen this one
        // laden, the mark is seen to be gone.
        if !self.shared.marked.load(Ordering::Relaxed) {
            self.shared.start();
        }
    }

    /// Goes on from one call to the next. False if the connection has gone on without the one
    /// before, which is what it waits for.
    pub(crate) fn go_on(&self, before: Call, next: Call) -> bool {
        let (before, next, order) = (before.packed(), next.packed(), Ordering::AcqRel);
        self.at.compare_exchange(before, next, order, Ordering::Acquire).is_ok()
    }

    /// Takes the connection back when the writes are done. `None` if it has gone on without the last
    /// of them; then their results are sent there.
    pub(crate) fn take_back(&self, mut outcome: Outcome) -> Option<(Box<Connection>, Outcome)> {
        let mut state = self.state.lock();
        let (left, orphan) = (state.left.take(), state.orphan.take());
        drop(state);
        if let Some(Orphan { first, parts, unit, reply, since }) = orphan {
            let time = since.elapsed();
            for (number, (task, memory)) in (first..).zip(parts) {
                let failed = outcome.failed.iter().position(|(at, _)| *at == number);
                let error = failed.map(|at| WorkError::Image(outcome.failed.swap_remove(at).1));
                let result = error.map_or(Ok(Output::Done), Err);
                unit.statistics().handed_off(Kind::Write, time);
                let (task, unit) = (Some(task), unit.clone());
                // A connection that is gone has nobody to tell.
                let _ = reply.send(Message::Done(Completion { task, unit, memory, result, time }));
            }
            return None;
        }
        left.map(|connection| (connection, outcome))
    }

    fn look(&self) -> Seen {
        let mut state = self.state.lock();
        if let Some(orphan) = &state.orphan {
            orphan.unit.write_hangs(Milliseconds::now());
            return Seen::Hangs(None);
        }
        if state.left.is_none() {
            return Seen::Free;
        }
        let at = self.at.load(Ordering::Acquire);
        if at != state.seen {
            (state.seen, state.looks) = (at, 0);
        }
        state.looks += 1;
        if state.looks < LOOKS {
            return Seen::Writes;
        }
        if self.at.compare_exchange(at, GONE, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // It has just gone on.
            return Seen::Writes;
        }
        let Some(mut connection) = state.left.take() else { return Seen::Free };
        state.orphan = connection.rescue(Call::unpacked(at));
        if let Some(orphan) = &state.orphan {
            // Who waits for its turn behind it goes elsewhere.
            orphan.unit.write_hangs(Milliseconds::now());
        }
        Seen::Hangs(Some(connection))
    }
}

/// What the watch sees at a desk.
enum Seen {
    /// Nobody writes.
    Free,
    /// Its thread writes.
    Writes,
    /// Its write hangs; with the connection that goes on elsewhere, if that is known only now.
    Hangs(Option<Box<Connection>>),
}

/// Ends when nobody can write any more.
fn run(shared: &Weak<Shared>, runtime: &Handle) {
    // What is handed off needs its threads.
    let _runtime = runtime.enter();
    let mut busy = false;
    loop {
        match shared.upgrade().map(|shared| busy || shared.marked.load(Ordering::Acquire)) {
            None => return,
            Some(false) => thread::park(),
            Some(true) => {
                thread::sleep(PERIOD);
                let Some(shared) = shared.upgrade() else { return };
                // Before the look and the wake, so that a mark that comes with them leads to the
                // next ones.
                shared.marked.store(false, Ordering::Release);
                busy = false;
                let desks: Vec<_> = shared.desks.lock().iter().filter_map(Weak::upgrade).collect();
                let mut hangs = false;
                for desk in desks {
                    let seen = desk.look();
                    busy |= !matches!(seen, Seen::Free);
                    if let Seen::Hangs(rescued) = seen {
                        hangs = true;
                        rescued.map(|connection| runtime.spawn(connection.go_on()));
                    }
                }
                if hangs {
                    runtime.spawn(std::future::ready(()));
                }
            }
        }
    }
}
