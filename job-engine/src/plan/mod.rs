//! What a job does as data: a list of actions, each of them idempotent, and how they are undone.
//!
//! The plan is made when the job is submitted and lies in the store with it, so a newer version can
//! finish what an older one began: it must know the actions, not the kind of job. Before an action
//! is begun, the store says so ([`crate::kinds::Step::Planned`]); an action that takes long says now
//! and then how far it is, after that is durable.

mod check;
mod convert;
mod copy;
mod crowded;
mod mirror;
mod overlay;
mod run;
mod shrink;
mod sums;
mod switch;

pub(crate) use convert::{Conversion, Form};
pub(crate) use mirror::Moving;
pub(crate) use overlay::Child;
pub(crate) use run::{recover, run, undo};
pub(crate) use sums::Sums;

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalogue::Disk;
use crate::datapath::Switched;
use crate::engine::{Change, Debris, Expose};
use crate::id::{DiskId, JobId, PoolId};
use crate::kinds::Step;
use crate::place::{Identity, Place};

/// What a job does, and undoes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The disks that it works on.
    pub(crate) claims: Vec<Claim>,
    /// In this order.
    pub(crate) actions: Vec<Action>,
    /// Undone from the last to the first.
    pub(crate) undo: Vec<Undo>,
    /// From this action on it goes on to its end, whatever a client wants.
    pub(crate) no_return: Option<u32>,
    /// The pool that it takes space of, if it makes no disk there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<PoolId>,
    /// Bytes by which the disks of that pool become more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) grows: u64,
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// A disk that a job works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) disk: DiskId,
    /// Nobody else may; otherwise those may that do not change it either.
    pub(crate) exclusive: bool,
}

/// A file that becomes another at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    /// The disk that `from` is the file of.
    pub(crate) disk: DiskId,
    pub(crate) from: Place,
    /// Made under its partial name.
    pub(crate) to: Place,
}

/// One thing to do. Places are made under their partial names until they are published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Waits until nobody has the file open any more.
    Await { place: Place },
    /// Copies a file; `bytes` is how long the copy gets, if not as long as the file, `full` that it
    /// owns all its space.
    Copy { from: Place, to: Place, bytes: Option<u64>, full: bool },
    /// Copies an image into one of another format, or with other space.
    Convert(Box<Conversion>),
    /// Brings a disk into another file while it is used.
    Move(Box<Moving>),
    /// Compares a copy with its source as disks, or reads all of an image.
    Compare { from: Option<Form>, of: Form, bytes: u64 },
    /// Finds what is wrong with an image, and frees what is lost in it if that is wanted.
    Check {
        of: Form,
        bytes: u64,
        block_bytes: u32,
        repair: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sums: Option<Sums>,
    },
    /// Makes copies of all of them at one instant, while their disks are in use.
    Share {
        files: Vec<Share>,
        /// What is done instead if initiators would wait for long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        otherwise: Option<Box<Plan>>,
    },
    /// Compares a copy with its source, or reads all of a file.
    Verify { from: Option<Place>, of: Place, bytes: u64 },
    /// Makes a link to a block device that nobody else uses.
    Link { device: Place, to: Place },
    /// Gives a file its name. Which one it is is noted before.
    Publish { place: Place, identity: Option<Identity> },
    /// Writes zeroes over a file.
    Overwrite { place: Place },
    /// Removes a file.
    Remove { place: Place },
    /// Removes a file that was never published.
    Discard { place: Place },
    /// Puts changes into the catalogue.
    Apply { changes: Vec<Change> },
    /// Makes a disk smaller, if nothing lies in the part that goes.
    Shrink { disk: Box<Disk>, to_bytes: u64 },
    /// Takes all space of a file that others use.
    TakeSpace { place: Place, bytes: u64 },
    /// Cuts a file.
    Truncate { place: Place, bytes: u64 },
    /// Cuts a disk's image, which may be in use, behind what the disk shows.
    Cut { disk: DiskId, of: Form, bytes: u64 },
    /// Gives a disk the data of another file, and keeps those that it had until that is done.
    RollBack {
        disk: DiskId,
        from: Place,
        to: Place,
        keep: Place,
        /// What is done instead if initiators would wait for long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        otherwise: Option<Box<Plan>>,
    },
    /// Makes an image that is laid over another one, and has nothing of its own.
    Overlay { to: Place, parent: Form, bytes: u64 },
    /// Puts changes into the catalogue and has the data path use the disks' new images, all from one
    /// instant on; `back` is how the catalogue was.
    Switch { disks: Vec<Switched>, changes: Vec<Change>, back: Vec<Change> },
    /// Brings what an image and those below have into one further down, which then has the same
    /// data.
    Merge { from: Form, into: Form, bytes: u64 },
    /// Has images that are laid over the one in `from` name another one with the same data.
    Rebase { children: Vec<Child>, from: Place, to: Form },
    /// Puts changes into the catalogue and completes the job.
    Complete { changes: Vec<Change> },
    /// The same, and exposes the disk that the changes put there.
    CompleteExposed { disk: DiskId, changes: Vec<Change>, to: Box<Expose> },
    /// What only another version of the program can do.
    #[serde(untagged)]
    Unknown(serde_json::Value),
}

/// One thing to undo, if the job got so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undo {
    /// The first action after whose beginning there is something to undo.
    pub(crate) from: u32,
    pub(crate) how: How,
}

/// How something is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// Removes the file that the job made there.
    Remove { place: Place },
    /// Removes a disk's file.
    Delete { place: Place },
    /// What only another version of the program can undo.
    #[serde(untagged)]
    Unknown(serde_json::Value),
}

impl Action {
    /// Its name in traces, as it is stored.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Await { .. } => "await",
            Self::Copy { .. } => "copy",
            Self::Convert(_) => "convert",
            Self::Move(_) => "move",
            Self::Compare { .. } => "compare",
            Self::Check { .. } => "check",
            Self::Share { .. } => "share",
            Self::Verify { .. } => "verify",
            Self::Link { .. } => "link",
            Self::Publish { .. } => "publish",
            Self::Overwrite { .. } => "overwrite",
            Self::Remove { .. } => "remove",
            Self::Discard { .. } => "discard",
            Self::Apply { .. } => "apply",
            Self::Shrink { .. } => "shrink",
            Self::TakeSpace { .. } => "take_space",
            Self::Truncate { .. } => "truncate",
            Self::Cut { .. } => "cut",
            Self::RollBack { .. } => "roll_back",
            Self::Overlay { .. } => "overlay",
            Self::Switch { .. } => "switch",
            Self::Merge { .. } => "merge",
            Self::Rebase { .. } => "rebase",
            Self::Complete { .. } => "complete",
            Self::CompleteExposed { .. } => "complete_exposed",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Makes a copy of a disk's file at one instant.
    pub(crate) fn share(disk: DiskId, from: &Place, to: &Place) -> Self {
        let files = vec![Share { disk, from: from.clone(), to: to.clone() }];
        Self::Share { files, otherwise: None }
    }
}

impl Plan {
    /// This version cannot carry all of it out, so it does not begin with any of it.
    pub(crate) fn is_unknown(&self) -> bool {
        self.actions.iter().any(|action| {
            matches!(action, Action::Unknown(_))
                || action.other_plan().is_some_and(Self::is_unknown)
        })
    }

    /// Which file got the name of a place.
    fn identity(&self, wanted: &Place) -> Option<Identity> {
        self.actions.iter().find_map(|action| {
            let (place, identity) = if let Action::Move(moving) = action {
                (&moving.conversion.to.place, moving.identity)
            } else if let Action::Publish { place, identity } = action {
                (place, *identity)
            } else {
                return None;
            };
            if place == wanted { identity } else { None }
        })
    }

    /// It makes another file of this one, or reads it to its end.
    pub(crate) fn reads(&self, path: &Path) -> bool {
        self.actions.iter().any(|action| {
            let from = if let Action::Convert(conversion) = action {
                &conversion.from.place
            } else if let Action::Move(moving) = action {
                &moving.conversion.from.place
            } else if let Action::Overlay { parent: Form { place, .. }, .. }
            | Action::Merge { from: Form { place, .. }, .. }
            | Action::Copy { from: place, .. }
            | Action::Check { of: Form { place, .. }, .. }
            | Action::RollBack { from: place, .. } = action
            {
                place
            } else {
                return false;
            };
            from.path == path
        })
    }

    /// The instant at which files were shared: that of the snapshots that it makes.
    fn taken_at(&mut self, instant: Timestamp) {
        for action in &mut self.actions {
            let (Action::Apply { changes }
            | Action::Complete { changes }
            | Action::Switch { changes, .. }) = action
            else {
                continue;
            };
            for change in changes {
                if let Change::PutSnapshot(snapshot) = change {
                    snapshot.created = instant;
                }
            }
        }
    }

    /// What is to be undone at the action `index`, the last first.
    fn undone_at(&self, index: u32) -> impl Iterator<Item = &How> {
        self.undo.iter().rev().filter(move |undo| undo.from <= index).map(|undo| &undo.how)
    }

    /// The files that are left if nothing is undone.
    pub(crate) fn leftovers(&self, index: u32, job: JobId) -> Vec<Change> {
        self.undone_at(index)
            .filter_map(|how| {
                Some(Change::PutDebris(match how {
                    How::Remove { place } => Debris {
                        path: place.path.clone(),
                        job,
                        file: Some((place.clone(), self.identity(place))),
                    },
                    How::Delete { place } => Debris { path: place.path.clone(), job, file: None },
                    How::Unknown(_) => return None,
                }))
            })
            .collect()
    }

    /// The job is exchanging a disk's data and cannot be left alone.
    pub(crate) fn is_critical(&self, step: Step) -> bool {
        let Step::Planned { index, done: 1 } = step else { return false };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let action = self.actions.get(index);
        matches!(action, Some(Action::RollBack { .. } | Action::Switch { .. }))
    }

    /// No client turns it back any more.
    pub(crate) fn cannot_return(&self, index: u32) -> bool {
        self.no_return.is_some_and(|from| index >= from)
    }
}
