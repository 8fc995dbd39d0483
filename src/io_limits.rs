//! Limits of what initiators may use: kept as records of the engine, in force on the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use job_engine::Engine;
use job_engine::catalogue::StoredRecord;
use mgmt_api::api::SetLimit;
use mgmt_api::service::{self, LimitOf, Refusal, ServiceError};
use parking_lot::Mutex;
use target_core::{Limit, Limited, Node};

/// Of the names of records.
const DISK: &str = "limit/disk/";
const INITIATOR: &str = "limit/initiator/";

/// More than anybody needs.
const MOST: usize = 16_384;

/// All limits, by the names of their records.
pub(crate) struct IoLimits {
    stored: Mutex<BTreeMap<String, SetLimit>>,
    engine: Arc<Engine>,
    node: Arc<Node>,
}

fn record_of(of: &LimitOf) -> String {
    match of {
        LimitOf::Disk(id) => format!("{DISK}{id}"),
        LimitOf::Initiator(name) => format!("{INITIATOR}{name}"),
    }
}

fn of_record(name: &str) -> Option<LimitOf> {
    let disk = name.strip_prefix(DISK).map(|id| LimitOf::Disk(id.to_owned()));
    disk.or_else(|| Some(LimitOf::Initiator(name.strip_prefix(INITIATOR)?.to_owned())))
}

impl IoLimits {
    /// Puts in force what was stored.
    pub(crate) fn load(engine: Arc<Engine>, node: Arc<Node>) -> Arc<Self> {
        let mut stored = BTreeMap::new();
        let disks: Vec<String> = engine.disks().iter().map(|disk| disk.id.to_string()).collect();
        for StoredRecord { name, text } in engine.records() {
            let Some(of) = of_record(&name) else { continue };
            // That of a disk that was deleted goes.
            if matches!(&of, LimitOf::Disk(id) if !disks.contains(id)) {
                if let Err(error) = engine.save_record(name, None) {
                    tracing::warn!(%error, "the limit of a disk that is gone stays stored");
                }
                continue;
            }
            match serde_json::from_str(&text) {
                Ok(limit) => {
                    enforce(&node, of, Some(&limit));
                    stored.insert(name, limit);
                }
                Err(error) => tracing::error!(name, %error, "a limit cannot be read: it is none"),
            }
        }
        Arc::new(Self { stored: Mutex::new(stored), engine, node })
    }

    pub(crate) fn list(&self) -> Vec<(LimitOf, SetLimit)> {
        let stored = self.stored.lock();
        stored.iter().filter_map(|(name, it)| Some((of_record(name)?, it.clone()))).collect()
    }

    /// Makes the limits these and no others, as far as anything is said; what is new is in force
    /// when `commit` has stored it.
    pub(crate) fn replace(
        &self,
        wanted: Option<&[(LimitOf, SetLimit)]>,
        commit: &mut dyn FnMut(Vec<(String, Option<String>)>) -> service::Result<bool>,
    ) -> service::Result<()> {
        let mut stored = self.stored.lock();
        let Some(wanted) = wanted else { return commit(Vec::new()).map(drop) };
        if wanted.len() > MOST {
            return Err(too_many());
        }
        let next: BTreeMap<String, SetLimit> =
            wanted.iter().map(|(of, limit)| (record_of(of), limit.clone())).collect();
        let gone = stored.keys().filter(|record| !next.contains_key(*record));
        let mut changed: Vec<(String, Option<String>)> =
            gone.map(|record| (record.clone(), None)).collect();
        for (record, limit) in next.iter().filter(|(record, it)| stored.get(*record) != Some(it)) {
            changed.push((record.clone(), Some(text_of(limit)?)));
        }
        if commit(changed.clone())? {
            for of in changed.iter().map(|(record, _)| record) {
                if let Some(whom) = of_record(of) {
                    enforce(&self.node, whom, next.get(of));
                }
            }
            *stored = next;
        }
        Ok(())
    }

    /// Stores a limit, or that there is none, then puts that in force.
    pub(crate) fn set(&self, of: &LimitOf, limit: Option<SetLimit>) -> service::Result<()> {
        let record = record_of(of);
        let mut stored = self.stored.lock();
        if limit.is_none() && !stored.contains_key(&record) {
            return Err(ServiceError::new(Refusal::NotFound, "there is no such limit"));
        }
        if stored.len() >= MOST && !stored.contains_key(&record) {
            return Err(too_many());
        }
        let text = limit.as_ref().map(text_of).transpose()?;
        self.engine.save_record(record.clone(), text)?;
        enforce(&self.node, of.clone(), limit.as_ref());
        match limit {
            Some(limit) => stored.insert(record, limit),
            None => stored.remove(&record),
        };
        Ok(())
    }
}

fn too_many() -> ServiceError {
    ServiceError::new(Refusal::Conflict, format!("there are at most {MOST} limits"))
}

fn text_of(limit: &SetLimit) -> service::Result<String> {
    serde_json::to_string(limit).map_err(|error| {
        ServiceError::new(Refusal::Internal, format!("the limit cannot be stored: {error}"))
    })
}

fn enforce(node: &Node, of: LimitOf, limit: Option<&SetLimit>) {
    let limited = match of {
        LimitOf::Disk(id) => Limited::Unit(id),
        LimitOf::Initiator(name) => Limited::Initiator(name),
    };
    let limit = limit.map(|limit| Limit {
        iops: limit.iops,
        bytes_per_second: limit.bytes_per_second,
        burst: Duration::from_millis(limit.burst_ms.into()),
    });
    node.set_limit(limited, limit.as_ref());
}
