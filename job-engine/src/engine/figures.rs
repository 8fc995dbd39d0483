//! Counts for metrics: none of them copies what it counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Engine;
use super::open::DATABASE;
use crate::id::DiskId;
use crate::job::JobKind;
use crate::store::JOURNAL;

/// Upper bounds of the classes of [`StoreFigures::commits`], in microseconds.
pub const COMMIT_BOUNDS: [u64; 11] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 5_000_000];

/// What the database does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// It takes changes now.
    pub available: bool,
    /// Bytes of its files; none if they cannot be looked at.
    pub database_bytes: Option<u64>,
    /// Bytes of the journal beside it.
    pub journal_bytes: Option<u64>,
    /// Transactions since the start by how long it took until they were durable: one for each of
    /// [`COMMIT_BOUNDS`], and one for what took longer; not cumulative.
    pub commits: [u64; COMMIT_BOUNDS.len() + 1],
    /// All of that together.
    pub commit_nanoseconds: u64,
}

/// Faults of the data path on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultCount {
    /// The disk.
    pub disk: DiskId,
    /// The name that it has, or had.
    pub disk_name: String,
    /// Their message.
    pub message_id: String,
    /// How many there were.
    pub count: u64,
}

/// How many jobs there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// By what they do and their state.
    pub jobs: BTreeMap<(String, &'static str), u64>,
    /// Faults are none of those.
    pub faults: Vec<FaultCount>,
}

/// How long transactions took. The engine's thread alone counts.
#[derive(Debug, Default)]
pub(crate) struct CommitTimes {
    classes: [AtomicU64; COMMIT_BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl CommitTimes {
    pub(crate) fn count(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let class = COMMIT_BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Engine {
    /// What the database does. Asks the file system.
    #[must_use]
    pub fn store_figures(&self) -> StoreFigures {
        let directory = &self.shared.config.directory;
        let sizes = |path: &std::path::Path| -> std::io::Result<u64> {
            let files = std::fs::read_dir(path)?;
            files.map(|file| Ok(file?.metadata()?.len())).sum()
        };
        let times = &self.shared.commit_times;
        StoreFigures {
            available: self.shared.state.lock().store_down.is_none(),
            database_bytes: sizes(&directory.join(DATABASE)).ok(),
            journal_bytes: std::fs::metadata(directory.join(JOURNAL)).ok().map(|it| it.len()),
            commits: std::array::from_fn(|class| {
                times.classes.get(class).map_or(0, |class| class.load(Ordering::Relaxed))
            }),
            commit_nanoseconds: times.nanoseconds.load(Ordering::Relaxed),
        }
    }

    /// How many jobs and faults there are.
    #[must_use]
    pub fn job_counts(&self) -> JobCounts {
        let state = self.shared.state.lock();
        let mut counts = JobCounts::default();
        let mut jobs = BTreeMap::<(&str, &'static str), u64>::new();
        for entry in state.jobs.values() {
            let job = &entry.record.job;
            if let JobKind::DataPathFault(fault) = &job.kind {
                let disk_name = state.disks.get(&fault.disk).map(|disk| disk.name.clone());
                counts.faults.push(FaultCount {
                    disk: fault.disk,
                    disk_name: disk_name.unwrap_or_default(),
                    message_id: fault.message_id.clone(),
                    count: fault.count,
                });
                continue;
            }
            *jobs.entry((job.kind.word(), job.state.name())).or_default() += 1;
        }
        counts.jobs =
            jobs.into_iter().map(|((kind, state), n)| ((kind.to_owned(), state), n)).collect();
        counts
    }
}
