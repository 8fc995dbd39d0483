//! All that is pinned, and the thread that does it.
//!
//! It sleeps as long as nothing is pinned and nothing is wanted. Otherwise it looks once a second at
//! what is used: what nobody reads goes after a minute, or sooner if something else is wanted in
//! its place; where the system is short of memory, half of everything goes at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{CHUNK, Chunks, HELD, PINNED, USED, system};

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);
/// After so many without a read a chunk goes.
const MAX_IDLE: u8 = 60;
/// After so many it goes if another one is wanted.
const REPLACED: u8 = 2;
/// For so many nothing is pinned once the system was short of memory.
const PAUSE: u8 = 30;
/// So many may be wanted at once.
const MAX_WANTED: usize = 4096;

/// All of the program.
pub(super) static SET: HotSet = HotSet::new();

#[derive(Debug)]
pub(super) struct HotSet {
    budget: AtomicU64,
    /// Something can be pinned.
    takes_more: AtomicBool,
    bytes: AtomicU64,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Inbox {
    /// Chunks that shall be pinned.
    wanted: VecDeque<(Weak<Chunks>, u64)>,
    /// Files that are closed: giving memory back takes time.
    retired: Vec<Arc<Chunks>>,
    has_thread: bool,
}

impl HotSet {
    const fn new() -> Self {
        let inbox = Inbox { wanted: VecDeque::new(), retired: Vec::new(), has_thread: false };
        Self {
            budget: AtomicU64::new(0),
            takes_more: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            inbox: Mutex::new(inbox),
            arrived: Condvar::new(),
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_budget(&self, bytes: u64) {
        if bytes > 0 {
            may_lock(bytes);
        }
        self.budget.store(bytes, Ordering::Relaxed);
        self.takes_more.store(bytes >= CHUNK, Ordering::Relaxed);
        // What is too much goes.
        self.arrived.notify_one();
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it is worth while to count reads.
    #[inline]
    pub(super) fn takes_more(&self) -> bool {
        self.takes_more.load(Ordering::Relaxed)
    }

    /// Asks for a chunk; false if too many have.
    pub(super) fn want(&'static self, chunks: &Arc<Chunks>, number: u64) -> bool {
        let mut inbox = self.inbox();
        if inbox.wanted.len() >= MAX_WANTED || !self.has_thread(&mut inbox) {
            return false;
        }
        inbox.wanted.push_back((Arc::downgrade(chunks), number));
        drop(inbox);
        self.arrived.notify_one();
        true
    }

    /// Has a file's memory given back.
    pub(super) fn retire(&self, chunks: Arc<Chunks>) {
        let mut inbox = self.inbox();
        // Without a thread nothing of it is pinned.
        if inbox.has_thread {
            inbox.retired.push(chunks);
            drop(inbox);
            self.arrived.notify_one();
        }
    }

    fn has_thread(&'static self, inbox: &mut Inbox) -> bool {
        if !inbox.has_thread {
            let run = move || Keeper { set: self, held: Vec::new(), pause: 0 }.run();
            let thread = thread::Builder::new().name("lund-hot".to_owned()).spawn(run);
            inbox.has_thread = thread.is_ok();
        }
        inbox.has_thread
    }
}

/// Locked memory needs a limit that allows it, or the privilege to do without.
fn may_lock(bytes: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Memlock);
    let raised = maximum.map_or(Some(bytes), |most| Some(most.min(bytes)));
    if current.is_some_and(|now| raised.is_some_and(|raised| now < raised)) {
        let _ = setrlimit(Resource::Memlock, Rlimit { current: raised, maximum });
    }
}

/// A chunk that is pinned.
#[derive(Debug)]
struct Held {
    chunks: Weak<Chunks>,
    number: u64,
    /// Looks at it since it was read.
    idle: u8,
}

/// What the thread knows.
struct Keeper {
    set: &'static HotSet,
    held: Vec<Held>,
    /// Looks for which nothing is pinned.
    pause: u8,
}

impl Keeper {
    fn run(mut self) {
        let mut next_look = Instant::now() + TICK;
        loop {
            let idle = self.held.is_empty() && self.pause == 0;
            let mut inbox = self.set.inbox();
            while inbox.wanted.is_empty() && inbox.retired.is_empty() {
                let left = next_look.saturating_duration_since(Instant::now());
                if idle {
                    inbox = self.set.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
                } else if left.is_zero() {
                    break;
                } else {
                    let waited = self.set.arrived.wait_timeout(inbox, left);
                    inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
            let retired = std::mem::take(&mut inbox.retired);
            let wanted = inbox.wanted.pop_front();
            drop(inbox);
            if !retired.is_empty() {
                drop(retired);
                self.held.retain(|held| held.chunks.strong_count() > 0);
            }
            if let Some((chunks, number)) = wanted
                && let Some(chunks) = chunks.upgrade()
            {
                self.pin(&chunks, number);
            }
            if next_look <= Instant::now() {
                self.look();
                next_look = Instant::now() + TICK;
            }
            self.tell();
        }
    }

    fn bytes(&self) -> u64 {
        u64::try_from(self.held.len()).unwrap_or(u64::MAX).saturating_mul(CHUNK)
    }

    fn has_room(&self) -> bool {
        self.pause == 0 && self.bytes() + CHUNK <= self.set.budget.load(Ordering::Relaxed)
    }

    fn tell(&self) {
        self.set.bytes.store(self.bytes(), Ordering::Relaxed);
        let can_replace = || self.pause == 0 && self.held.iter().any(|it| it.idle >= REPLACED);
        let takes_more = self.has_room() || can_replace();
        self.set.takes_more.store(takes_more, Ordering::Relaxed);
    }

    fn pin(&mut self, chunks: &Arc<Chunks>, number: u64) {
        let Some(state) = chunks.state(number) else { return };
        if chunks.has_hole(number) {
            chunks.unpin(number);
            return;
        }
        let is_held = state.load(Ordering::SeqCst) & HELD != 0;
        if !is_held && !self.has_room() && !self.replace() {
            chunks.unpin(number);
            return;
        }
        match chunks.pin(number).map_err(|error| Errno::from_io_error(&error)) {
            Ok(()) if is_held => {}
            Ok(()) => self.held.push(Held { chunks: Arc::downgrade(chunks), number, idle: 0 }),
            // The end of the file, which is no whole chunk, or a bad place of the device: the others can be.
            Err(Some(Errno::FAULT)) => {}
            // A limit: not again and again.
            Err(_) => self.pause = self.pause.max(1),
        }
    }

    /// Makes room with what was not read lately.
    fn replace(&mut self) -> bool {
        if self.pause > 0 {
            return false;
        }
        let at = self.held.iter().position(|held| held.idle >= REPLACED && held.release());
        at.map(|at| self.held.swap_remove(at)).is_some() && self.has_room()
    }

    fn look(&mut self) {
        self.pause = self.pause.saturating_sub(1);
        self.held.retain_mut(|held| held.look() || !held.release());
        let mut most =
            usize::try_from(self.set.budget.load(Ordering::Relaxed) / CHUNK).unwrap_or(usize::MAX);
        if !self.held.is_empty() && system::is_short_of_memory() {
            tracing::info!(
                bytes = self.bytes(),
                "short of memory: half of what is pinned is given back"
            );
            most = most.min(self.held.len() / 2);
            self.pause = PAUSE;
        }
        if self.held.len() > most {
            self.held.sort_by_key(|held| held.idle);
            let mut too_many = self.held.split_off(most);
            too_many.retain(|held| !held.release());
            self.held.append(&mut too_many);
        }
    }
}

impl Held {
    /// Whether it is worth while to keep it.
    fn look(&mut self) -> bool {
        let Some(chunks) = self.chunks.upgrade() else { return false };
        let Some(state) = chunks.state(self.number) else { return false };
        let before = state.fetch_and(!USED, Ordering::Relaxed);
        self.idle = if before & USED != 0 { 0 } else { self.idle.saturating_add(1) };
        before & PINNED != 0 && self.idle < MAX_IDLE
    }

    /// Gives it back; false if somebody sends from it.
    fn release(&self) -> bool {
        self.chunks.upgrade().is_none_or(|chunks| chunks.unpin(self.number))
    }
}
