//! Places where a test may kill the process as `kill -9` would.
//!
//! With the feature `failpoints`, the environment variable `LUND_CRASH_AT=<step>` makes the process
//! kill itself when it gets there for the first time, `<step>:<n>` for the n-th time. Without the
//! feature nothing of it is compiled.

/// Names of all places. `.before` and `.after` stand around a commit of the database, the others
/// between two effects on the file system.
pub const STEPS: &[&str] = &[
    "submit.before",
    "submit.after",
    "starting.before",
    "starting.after",
    "running.before",
    "running.after",
    "create.allocating.before",
    "create.allocating.after",
    "create.piece",
    "progress.before",
    "progress.after",
    "create.named",
    "create.complete.before",
    "create.complete.after",
    "delete.unlinking.before",
    "delete.unlinking.after",
    "delete.unlinked",
    "delete.complete.before",
    "delete.complete.after",
    "expand.allocating.before",
    "expand.allocating.after",
    "expand.piece",
    "expand.extended",
    "expand.complete.before",
    "expand.complete.after",
    "plan.step.before",
    "plan.step.after",
    "plan.piece",
    "plan.converted",
    "plan.compared",
    "plan.mirrored",
    "plan.moving",
    "plan.moved",
    "plan.checked",
    "plan.summed",
    "plan.verified",
    "plan.overwritten",
    "plan.space",
    "checkpoint.before",
    "checkpoint.after",
    "plan.shrunk",
    "plan.cut",
    "plan.done",
    "in-force.before",
    "in-force.after",
    "plan.complete.before",
    "plan.complete.after",
    "operation.begun.before",
    "operation.begun.after",
    "operation.reached.before",
    "operation.reached.after",
    "operation.done",
    "operation.complete.before",
    "operation.complete.after",
    "ending.before",
    "ending.after",
    "undo.files",
    "ended.before",
    "ended.after",
    "suspended.before",
    "suspended.after",
    "resumed.before",
    "resumed.after",
    "killed.before",
    "killed.after",
    "swept.before",
    "swept.after",
    "removed.before",
    "removed.after",
    "catalogue.before",
    "catalogue.after",
    "configuration.before",
    "configuration.after",
    "faults.before",
    "faults.after",
    "store.flushed",
];

/// Places that are passed only where the file system shares blocks between files.
pub const REFLINK_STEPS: &[&str] =
    &["plan.shared", "plan.crowded", "plan.exchanging", "plan.exchanged"];

/// Places that are passed only where it does not: images are laid over others there.
pub const OVERLAY_STEPS: &[&str] =
    &["plan.laid", "plan.switching", "plan.switched", "plan.merged", "plan.rebased"];

/// A commit that can be crashed around: names of the places before and after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit {
    pub(crate) before: &'static str,
    pub(crate) after: &'static str,
}

macro_rules! commits {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) const $name: Commit =
            Commit { before: concat!($text, ".before"), after: concat!($text, ".after") };)*
        #[cfg(test)]
        const COMMITS: &[Commit] = &[$($name),*];
    };
}

commits! {
    SUBMIT = "submit";
    STARTING = "starting";
    RUNNING = "running";
    CREATE_ALLOCATING = "create.allocating";
    PROGRESS = "progress";
    CREATE_COMPLETE = "create.complete";
    DELETE_UNLINKING = "delete.unlinking";
    DELETE_COMPLETE = "delete.complete";
    EXPAND_ALLOCATING = "expand.allocating";
    EXPAND_COMPLETE = "expand.complete";
    PLAN_STEP = "plan.step";
    CHECKPOINT = "checkpoint";
    IN_FORCE = "in-force";
    PLAN_COMPLETE = "plan.complete";
    OPERATION_BEGUN = "operation.begun";
    OPERATION_REACHED = "operation.reached";
    OPERATION_COMPLETE = "operation.complete";
    ENDING = "ending";
    ENDED = "ended";
    SUSPENDED = "suspended";
    RESUMED = "resumed";
    KILLED = "killed";
    SWEPT = "swept";
    REMOVED = "removed";
    CATALOGUE = "catalogue";
    CONFIGURATION = "configuration";
    FAULTS = "faults";
}

/// The process dies here if it was told to.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn hit(_step: &'static str) {}

/// The process dies here if it was told to.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(step: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static AIM: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    debug_assert!(
        [STEPS, REFLINK_STEPS, OVERLAY_STEPS].iter().any(|steps| steps.contains(&step)),
        "{step} is in none of the lists"
    );
    let aim = AIM.get_or_init(|| {
        let text = std::env::var("LUND_CRASH_AT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU32::new(count.parse().unwrap_or(1))))
    });
    if let Some((name, left)) = aim
        && name == step
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        // Nothing may run after this: no destructor, no flush.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_is_listed_so_that_a_test_can_walk_them_all() {
        for commit in COMMITS {
            assert!(STEPS.contains(&commit.before), "{}", commit.before);
            assert!(STEPS.contains(&commit.after), "{}", commit.after);
        }
    }
}
