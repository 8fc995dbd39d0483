//! Messages about changes, stored in the transaction that makes the change: whoever sends them on
//! finds them again after a crash, and none without its change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Weak;

use super::Engine;
use super::core::Core;
use super::state::{Change, State};
use crate::catalogue::StoredRecord;
use crate::error::{Cause, RequestError};
use crate::event::ChangeKind;
use crate::failpoint;

/// Whoever makes messages of changes.
pub trait Outbox: fmt::Debug + Send + Sync {
    /// What the store holds, before the engine changes anything: what [`Engine::records`] tells,
    /// and the messages by key.
    fn open(&self, records: Vec<StoredRecord>, messages: Vec<StoredRecord>);

    /// The engine whose state may be looked at, before it changes anything: jobs of an earlier run go on
    /// before [`Engine::open`] returns.
    fn engine(&self, engine: Weak<Engine>);

    /// Messages about changes that are about to become durable, and those that give way to them
    /// (without a text). On the engine's thread: it may look at the state, which is that before the
    /// changes, and must not ask the engine for anything else.
    fn tell(&self, changes: &[ChangeKind]) -> Vec<(String, Option<String>)>;

    /// The changes of the last [`Outbox::tell`] are durable, or nobody will hear of them.
    fn done(&self, durable: bool);
}

impl Engine {
    /// The text of a message that is in the store.
    #[must_use]
    pub fn message(&self, key: &str) -> Option<String> {
        self.shared.state.lock().messages.get(key).cloned()
    }

    /// Removes messages; durable when it returns. Keys that are not there are no matter.
    ///
    /// # Errors
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn remove_messages(&self, keys: Vec<String>) -> Result<(), RequestError> {
        let remove = move |core: &mut Core| {
            let mut keys = keys;
            {
                let state = core.shared.state.lock();
                keys.retain(|key| state.messages.contains_key(key));
            }
            if keys.is_empty() {
                return Ok(());
            }
            let changes = keys.into_iter().map(Change::DeleteMessage).collect();
            core.commit_request(failpoint::CATALOGUE, changes)
        };
        let done = self.shared.call(remove);
        done.unwrap_or_else(|| Err(self.shared.refuse(Cause::ShuttingDown, None)))
    }
}

impl Core {
    /// Adds what is told of the changes to their transaction; whether [`Outbox::done`] is due.
    pub(super) fn tell(&self, changes: &mut Vec<Change>) -> bool {
        let Some(outbox) = &self.shared.config.outbox else { return false };
        let now = self.now();
        let foretold: Vec<ChangeKind> = {
            let state = self.shared.state.lock();
            changes.iter().filter_map(|change| state.foretell(change, now)).collect()
        };
        if foretold.is_empty() {
            return false;
        }
        let messages = outbox.tell(&foretold).into_iter();
        changes.extend(messages.map(|(name, text)| match text {
            Some(text) => Change::PutMessage(StoredRecord { name, text }),
            None => Change::DeleteMessage(name),
        }));
        true
    }

    pub(super) fn told(&self, durable: bool) {
        if let Some(outbox) = &self.shared.config.outbox {
            outbox.done(durable);
        }
    }
}

fn texts(by_name: &BTreeMap<String, String>) -> Vec<StoredRecord> {
    let record =
        |(name, text): (&String, &String)| StoredRecord { name: name.clone(), text: text.clone() };
    by_name.iter().map(record).collect()
}

impl State {
    /// The messages, for whoever sends them.
    pub(super) fn stored_messages(&self) -> Vec<StoredRecord> {
        texts(&self.messages)
    }

    /// What others keep here.
    pub(super) fn stored_records(&self) -> Vec<StoredRecord> {
        texts(&self.records)
    }
}
