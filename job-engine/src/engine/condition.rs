//! A condition on a request: looked at on the engine's thread, right before the request, so that no
//! change comes between the two.

use std::cell::RefCell;
use std::sync::Arc;

/// Whether a request may be carried out. It may read the engine, but must not change anything or
/// wait for somebody who does.
pub type Condition = Arc<dyn Fn() -> bool + Send + Sync>;

thread_local! {
    static CONDITION: RefCell<Option<Condition>> = const { RefCell::new(None) };
}

/// Does `work` on this thread. Of the requests that it makes, the first one is refused with
/// `ChangedMeanwhile` unless `condition` holds when the engine comes to it.
pub fn under<R>(condition: Option<Condition>, work: impl FnOnce() -> R) -> R {
    /// The next user of the thread has no condition, also behind a panic.
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            take();
        }
    }
    let _clear = Clear;
    CONDITION.with(|place| *place.borrow_mut() = condition);
    work()
}

/// Whether the condition of the request that is being made holds, for what the engine does not hold
/// itself. It is looked at once.
#[must_use]
pub fn holds() -> bool {
    take().is_none_or(|condition| condition())
}

/// The condition of the request that is being made, once.
pub(super) fn take() -> Option<Condition> {
    CONDITION.with(|place| place.borrow_mut().take())
}
