//! The registry: every message, once. `docs/messages.md` is made from it.

use super::row::MessageRow;

pub(crate) const OUT_OF_SPACE: MessageRow = MessageRow {
    id: "ISCT-STG-001",
    error_code: 101,
    error_type: 8,
    other_error_type: None,
    severity: 5,
    probable_cause: 50,
    description: "The capacity of the pool or its file system is used up (ENOSPC, EDQUOT). Kin: SNIA DRM27.",
    status: 1,
    message: "Not enough capacity: cannot %1 in %2, which needs %3 bytes; %4 bytes are available",
    arguments: &[
        "what was attempted",
        "the directory",
        "bytes needed",
        "bytes available, or \"too few\" if the system did not say",
    ],
    actions: &[
        "Free space in the pool's file system, or delete disks that are not needed.",
        "Choose a smaller size, or another pool.",
    ],
};

pub(crate) const LIMIT_REACHED: MessageRow = MessageRow {
    id: "ISCT-STG-002",
    error_code: 102,
    error_type: 8,
    other_error_type: None,
    severity: 4,
    probable_cause: 44,
    description: "A limit of this product is reached. Kin: SNIA DRM27.",
    status: 27,
    message: "Limit reached: no more than %2 %1",
    arguments: &["what is limited", "the limit"],
    actions: &["Delete what is not needed any more, or spread it over several targets."],
};

pub(crate) const MEDIUM_ERROR: MessageRow = MessageRow {
    id: "ISCT-STG-003",
    error_code: 103,
    error_type: 5,
    other_error_type: None,
    severity: 6,
    probable_cause: 24,
    description: "The device below the file system reported an error, or the file is shorter than the disk. Kin: SNIA DRM26.",
    status: 1,
    message: "Input/output error: cannot %1 %2 (%3)",
    arguments: &["the operation", "the file", "where and why"],
    actions: &[
        "Read the kernel's log for errors of the device that holds the file.",
        "Check the file system, and restore the disk from a copy if data is lost.",
    ],
};

pub(crate) const MISSING: MessageRow = MessageRow {
    id: "ISCT-STG-004",
    error_code: 104,
    error_type: 9,
    other_error_type: None,
    severity: 6,
    probable_cause: 73,
    description: "The file, its directory or its file system is gone (ENOENT, ENODEV, ESTALE). Kin: SNIA DRM26.",
    status: 6,
    message: "Missing: cannot %1 %2 because it, or the directory that holds it, does not exist (%3)",
    arguments: &["the operation", "the file", "where and why"],
    actions: &[
        "Check that the file system of the pool is mounted.",
        "Restore the file or the directory from a copy.",
    ],
};

pub(crate) const IMAGE_LOCKED: MessageRow = MessageRow {
    id: "ISCT-STG-005",
    error_code: 105,
    error_type: 9,
    other_error_type: None,
    severity: 4,
    probable_cause: 72,
    description: "Another process, or this one for another purpose, holds the image. Kin: SNIA DRM26.",
    status: 1,
    message: "Locked: cannot %1 %2 because another opener holds it (%3)",
    arguments: &["the operation", "the file", "where and why"],
    actions: &[
        "Find the process that has the file open (for example with fuser) and let it finish.",
        "Log the initiators out that use the disk, and try again.",
    ],
};

pub(crate) const CORRUPT: MessageRow = MessageRow {
    id: "ISCT-STG-006",
    error_code: 106,
    error_type: 5,
    other_error_type: None,
    severity: 6,
    probable_cause: 10,
    description: "A checksum or a structure of the image does not agree with the rest of it.",
    status: 1,
    message: "Corrupt: cannot %1 %2 because its content contradicts itself (%3)",
    arguments: &["the operation", "the file", "where and why"],
    actions: &["Do not write to the disk any more.", "Restore it from a copy."],
};

pub(crate) const BAD_FORMAT: MessageRow = MessageRow {
    id: "ISCT-STG-007",
    error_code: 107,
    error_type: 4,
    other_error_type: None,
    severity: 5,
    probable_cause: 18,
    description: "The file is not an image of the expected format, or of a version that is not supported.",
    status: 1,
    message: "Not a disk image: cannot %1 %2 (%3)",
    arguments: &["the operation", "the file", "where and why"],
    actions: &["Check that the path names a regular file that holds a disk image."],
};

pub(crate) const PARENT_MISMATCH: MessageRow = MessageRow {
    id: "ISCT-STG-008",
    error_code: 108,
    error_type: 4,
    other_error_type: None,
    severity: 6,
    probable_cause: 57,
    description: "The parent of a differencing image is missing, was changed, or lies where no parent may. \
                  Kin: SNIA DRM20.",
    status: 1,
    message: "Parent mismatch: the image %1 does not have the parent that it needs: %2",
    arguments: &["the image", "what is wrong with its parent"],
    actions: &[
        "Bring the parent back as it was when the image was made.",
        "For an import, bring the parents below an allowed directory, too.",
        "Restore the disk from a copy.",
    ],
};

pub(crate) const WRITE_PROTECTED: MessageRow = MessageRow {
    id: "ISCT-STG-009",
    error_code: 109,
    error_type: 9,
    other_error_type: None,
    severity: 5,
    probable_cause: 8,
    description: "The file or its file system is read-only, or its permissions refuse the daemon (EROFS, EACCES, EPERM). Kin: SNIA DRM26.",
    status: 2,
    message: "Write protected: cannot %1 %2 because it is read-only or its permissions refuse it (%3)",
    arguments: &["the operation", "the file", "where and why"],
    actions: &[
        "Check whether the kernel has made the file system read-only after an error.",
        "Give the daemon's user permission to write in the directory.",
    ],
};

pub(crate) const OUT_OF_MEMORY: MessageRow = MessageRow {
    id: "ISCT-STG-010",
    error_code: 110,
    error_type: 8,
    other_error_type: None,
    severity: 5,
    probable_cause: 33,
    description: "Memory or file descriptors ran out.",
    status: 1,
    message: "Out of memory or file descriptors: cannot %1 %2 (%3)",
    arguments: &["the operation", "the file", "where and why"],
    actions: &[
        "Raise the memory limit or the limit of open files of the service, or reduce its load.",
    ],
};

pub(crate) const SYNC_FAILED: MessageRow = MessageRow {
    id: "ISCT-STG-011",
    error_code: 111,
    error_type: 5,
    other_error_type: None,
    severity: 7,
    probable_cause: 24,
    description: "The medium refused to make data durable: what was written since the last good flush may be lost.",
    status: 1,
    message: "Durability unknown: cannot %1 %2, writes since the last successful flush may be lost (%3)",
    arguments: &["the operation", "the file", "where and why"],
    actions: &[
        "Stop using the disk, read the kernel's log, and replace the device.",
        "Check the data on the disk before it is used again.",
    ],
};

pub(crate) const FILE_EXISTS: MessageRow = MessageRow {
    id: "ISCT-STG-012",
    error_code: 112,
    error_type: 9,
    other_error_type: None,
    severity: 4,
    probable_cause: 79,
    description: "A file that must not be replaced has the name that is needed.",
    status: 11,
    message: "File exists: cannot %1 %2 because something with that name is there (%3)",
    arguments: &["the operation", "the file", "where and why"],
    actions: &["Move the file away, or choose another name."],
};

pub(crate) const UNSUPPORTED_OPERATION: MessageRow = MessageRow {
    id: "ISCT-STG-013",
    error_code: 113,
    error_type: 10,
    other_error_type: None,
    severity: 4,
    probable_cause: 8,
    description: "The file system cannot do what is needed.",
    status: 7,
    message: "Not supported by the file system: cannot %1 %2 (%3)",
    arguments: &["the operation", "the file", "where and why"],
    actions: &["Use a pool on another file system, or a smaller size."],
};

pub(crate) const NO_REFLINKS: MessageRow = MessageRow {
    id: "ISCT-STG-014",
    error_code: 114,
    error_type: 10,
    other_error_type: None,
    severity: 4,
    probable_cause: 8,
    description: "The file system has no shared blocks (FICLONE), or the files are on different ones; without them a disk that is in use cannot be copied at one instant.",
    status: 7,
    message: "No copy at one instant: the file system that holds %1 cannot share blocks between files",
    arguments: &["the file"],
    actions: &[
        "Keep the pool on XFS (with reflink=1, the default) or Btrfs.",
        "Unmap the disk from every target, and try again.",
    ],
};

pub(crate) const CANCELLED: MessageRow = MessageRow {
    id: "ISCT-JOB-001",
    error_code: 201,
    error_type: 1,
    other_error_type: Some("Cancelled"),
    severity: 2,
    probable_cause: 1,
    description: "A client terminated the job; what it had done is undone. Kin: SNIA DRM23.",
    status: 1,
    message: "The job was cancelled by %1",
    arguments: &["who asked for it"],
    actions: &["Nothing: submit the job again if its result is wanted."],
};

pub(crate) const KILLED: MessageRow = MessageRow {
    id: "ISCT-JOB-002",
    error_code: 202,
    error_type: 1,
    other_error_type: Some("Killed"),
    severity: 3,
    probable_cause: 48,
    description: "A client killed the job; files that it left are removed in the background. Kin: SNIA DRM23.",
    status: 1,
    message: "The job was killed by %1",
    arguments: &["who asked for it"],
    actions: &["Nothing: submit the job again if its result is wanted."],
};

pub(crate) const RESTARTED_DURING_JOB: MessageRow = MessageRow {
    id: "ISCT-JOB-003",
    error_code: 203,
    error_type: 4,
    other_error_type: None,
    severity: 4,
    probable_cause: 48,
    description: "The daemon was restarted, and the job could not go on from where it was. Kin: SNIA DRM23.",
    status: 1,
    message: "The job was interrupted by a restart of the daemon (%1) and could not go on",
    arguments: &["where it was"],
    actions: &["Submit the job again."],
};

pub(crate) const COULD_NOT_START: MessageRow = MessageRow {
    id: "ISCT-JOB-004",
    error_code: 204,
    error_type: 9,
    other_error_type: None,
    severity: 4,
    probable_cause: 57,
    description: "There was no worker for the job. Kin: SNIA DRM22.",
    status: 1,
    message: "The job could not be started: %1",
    arguments: &["the reason"],
    actions: &["Wait until other jobs have ended, and submit it again."],
};

pub(crate) const INVALID_TRANSITION: MessageRow = MessageRow {
    id: "ISCT-JOB-005",
    error_code: 205,
    error_type: 10,
    other_error_type: None,
    severity: 2,
    probable_cause: 129,
    description: "The state of the job does not allow the request. Kin: SNIA DRM24.",
    status: 4,
    message: "Cannot %1 job %2 while it is %3",
    arguments: &["the request", "the job", "its state"],
    actions: &["Read the job's state, and ask for a transition that it allows."],
};

pub(crate) const TIME_LIMIT: MessageRow = MessageRow {
    id: "ISCT-JOB-006",
    error_code: 206,
    error_type: 3,
    other_error_type: None,
    severity: 4,
    probable_cause: 111,
    description: "The time limit of the job passed.",
    status: 1,
    message: "The job did not end within %1 seconds",
    arguments: &["the limit"],
    actions: &["Submit the job again with a longer limit, or when the system is less busy."],
};

pub(crate) const PANIC: MessageRow = MessageRow {
    id: "ISCT-JOB-007",
    error_code: 207,
    error_type: 4,
    other_error_type: None,
    severity: 6,
    probable_cause: 47,
    description: "A defect of this product was caught in a worker; what the job had done is undone.",
    status: 1,
    message: "Internal error: %1",
    arguments: &["what the program said"],
    actions: &["Keep the daemon's log, and report the defect."],
};

pub(crate) const CLEANUP_FAILED: MessageRow = MessageRow {
    id: "ISCT-JOB-008",
    error_code: 208,
    error_type: 4,
    other_error_type: None,
    severity: 3,
    probable_cause: 48,
    description: "What the job had done could not be undone completely; it is tried again at the next start.",
    status: 1,
    message: "The file %1 could not be removed: %2",
    arguments: &["the file", "the reason"],
    actions: &["Remove the cause; the next start of the daemon removes the file."],
};

pub(crate) const JOB_NOT_ENDED: MessageRow = MessageRow {
    id: "ISCT-JOB-009",
    error_code: 209,
    error_type: 9,
    other_error_type: None,
    severity: 2,
    probable_cause: 129,
    description: "Only a job that has ended can be deleted.",
    status: 1,
    message: "Job %1 cannot be deleted while it is %2",
    arguments: &["the job", "its state"],
    actions: &["Wait until it has ended, or terminate it first."],
};

pub(crate) const DEPENDENCY_FAILED: MessageRow = MessageRow {
    id: "ISCT-JOB-010",
    error_code: 210,
    error_type: 4,
    other_error_type: None,
    severity: 4,
    probable_cause: 48,
    description: "A job that was to end well before this one did not; this one has done nothing. Kin: SNIA DRM22.",
    status: 1,
    message: "The job was not started because job %1, which it waits for, is %2",
    arguments: &["the other job", "its state"],
    actions: &["Read why the other job failed, and submit both again."],
};

pub(crate) const DISK_IN_USE: MessageRow = MessageRow {
    id: "ISCT-CFG-001",
    error_code: 301,
    error_type: 9,
    other_error_type: None,
    severity: 3,
    probable_cause: 8,
    description: "The disk is exposed as a LUN, or a job works on it. Kin: SNIA DRM21.",
    status: 1,
    message: "Disk %1 is in use by %2",
    arguments: &["the disk", "what uses it"],
    actions: &["Unmap the disk from every target, or wait until the job has ended."],
};

pub(crate) const NAME_IN_USE: MessageRow = MessageRow {
    id: "ISCT-CFG-002",
    error_code: 302,
    error_type: 4,
    other_error_type: None,
    severity: 3,
    probable_cause: 79,
    description: "A name, LUN or mapping is taken.",
    status: 11,
    message: "The %1 %2 is in use already",
    arguments: &["what it is", "the name"],
    actions: &["Choose another one."],
};

pub(crate) const BAD_SIZE: MessageRow = MessageRow {
    id: "ISCT-CFG-003",
    error_code: 303,
    error_type: 10,
    other_error_type: None,
    severity: 2,
    probable_cause: 8,
    description: "A disk cannot have that size.",
    status: 4,
    message: "Size %1 is not possible: %2; the nearest possible size is %3",
    arguments: &["the size in bytes", "the reason", "the nearest size in bytes, or \"none\""],
    actions: &["Ask for the nearest possible size."],
};

pub(crate) const BAD_NAME: MessageRow = MessageRow {
    id: "ISCT-CFG-004",
    error_code: 304,
    error_type: 10,
    other_error_type: None,
    severity: 2,
    probable_cause: 8,
    description: "The name breaks a rule.",
    status: 4,
    message: "`%1` cannot be the name of a %2: %3",
    arguments: &["the name", "what it is for", "the rule"],
    actions: &["Choose a name that keeps the rule."],
};

pub(crate) const NOT_FOUND: MessageRow = MessageRow {
    id: "ISCT-CFG-005",
    error_code: 305,
    error_type: 9,
    other_error_type: None,
    severity: 2,
    probable_cause: 73,
    description: "There is nothing with that name.",
    status: 6,
    message: "There is no %1 %2",
    arguments: &["what was looked for", "its name"],
    actions: &["List what exists, and check the name."],
};

pub(crate) const TARGET_IN_USE: MessageRow = MessageRow {
    id: "ISCT-CFG-006",
    error_code: 306,
    error_type: 9,
    other_error_type: None,
    severity: 3,
    probable_cause: 8,
    description: "The target still exposes disks.",
    status: 1,
    message: "Target %1 is in use: %2 disks are mapped to it",
    arguments: &["the target", "how many"],
    actions: &["Unmap the disks first."],
};

pub(crate) const POOL_IN_USE: MessageRow = MessageRow {
    id: "ISCT-CFG-009",
    error_code: 309,
    error_type: 9,
    other_error_type: None,
    severity: 3,
    probable_cause: 8,
    description: "There are disks or snapshots in the pool, or jobs work there.",
    status: 1,
    message: "Pool %1 is in use: %2 disks and snapshots are in it, %3 jobs work there",
    arguments: &["the pool", "disks and snapshots", "jobs"],
    actions: &["Delete the disks or move them to another pool first."],
};

pub(crate) const BAD_VALUE: MessageRow = MessageRow {
    id: "ISCT-CFG-007",
    error_code: 307,
    error_type: 10,
    other_error_type: None,
    severity: 2,
    probable_cause: 8,
    description: "A property cannot take the value.",
    status: 4,
    message: "%1 is not valid: %2",
    arguments: &["the property", "the rule"],
    actions: &["Correct the value."],
};

pub(crate) const CHANGED_MEANWHILE: MessageRow = MessageRow {
    id: "ISCT-CFG-010",
    error_code: 310,
    error_type: 4,
    other_error_type: None,
    severity: 2,
    probable_cause: 8,
    description: "A request with a condition came too late: somebody else was quicker.",
    status: 1,
    message: "It was changed meanwhile, and nothing of this request was done",
    arguments: &[],
    actions: &["Read it again, and decide anew."],
};

pub(crate) const TAIL_IN_USE: MessageRow = MessageRow {
    id: "ISCT-CFG-008",
    error_code: 308,
    error_type: 10,
    other_error_type: None,
    severity: 3,
    probable_cause: 8,
    description: "A disk becomes smaller only by blocks that hold no data.",
    status: 4,
    message: "Disk %1 cannot have %2 bytes: there are data behind them, the first at byte %3",
    arguments: &["the disk", "the size in bytes", "the first allocated byte"],
    actions: &[
        "Make the file system on the disk smaller, and have it give back what it does not use (for example with blkdiscard).",
        "Choose a size behind the last allocated block.",
    ],
};

pub(crate) const STORE_UNAVAILABLE: MessageRow = MessageRow {
    id: "ISCT-DB-001",
    error_code: 401,
    error_type: 9,
    other_error_type: None,
    severity: 5,
    probable_cause: 57,
    description: "The database of jobs and configuration cannot be written. Existing LUNs go on working; the daemon tries again by itself.",
    status: 1,
    message: "The database cannot be written: %1",
    arguments: &["the reason"],
    actions: &["Check space and health of the file system that holds the data directory."],
};

pub(crate) const STORE_REPLACED: MessageRow = MessageRow {
    id: "ISCT-DB-002",
    error_code: 402,
    error_type: 4,
    other_error_type: None,
    severity: 6,
    probable_cause: 10,
    description: "The database was damaged. It was moved aside, and a new one was made from the journal.",
    status: 1,
    message: "The database was damaged and moved to %1; %2 records were restored from the journal",
    arguments: &["where the damaged one is", "how many"],
    actions: &[
        "Compare the disks, targets and mappings with what is expected.",
        "Check the health of the file system that holds the data directory, and keep the damaged database for support.",
    ],
};

pub(crate) const STORE_NEARLY_FULL: MessageRow = MessageRow {
    id: "ISCT-DB-003",
    error_code: 403,
    error_type: 8,
    other_error_type: None,
    severity: 5,
    probable_cause: 50,
    description: "The file system that holds the data directory has too little space for the record of a job.",
    status: 1,
    message: "Not enough capacity for the database in %1: %2 bytes are available, %3 are needed",
    arguments: &["the directory", "bytes available", "bytes needed"],
    actions: &["Free space in the file system that holds the data directory."],
};

pub(crate) const SHUTTING_DOWN: MessageRow = MessageRow {
    id: "ISCT-DB-004",
    error_code: 404,
    error_type: 9,
    other_error_type: None,
    severity: 2,
    probable_cause: 128,
    description: "The daemon is stopping and takes no more requests.",
    status: 28,
    message: "The daemon is shutting down",
    arguments: &[],
    actions: &["Try again when it has been started."],
};

pub(crate) const RECORDS_DAMAGED: MessageRow = MessageRow {
    id: "ISCT-DB-005",
    error_code: 405,
    error_type: 4,
    other_error_type: None,
    severity: 6,
    probable_cause: 10,
    description: "Single records of the database were damaged; what the journal knew of them was restored.",
    status: 1,
    message: "%1 records of the database were damaged; %2 of them were restored from the journal",
    arguments: &["how many were damaged", "how many were restored"],
    actions: &[
        "Compare the disks, targets and mappings with what is expected.",
        "Check the health of the file system that holds the data directory.",
    ],
};

pub(crate) const LOGIN_CHAP_FAILED: MessageRow = MessageRow {
    id: "ISCT-SCS-001",
    error_code: 501,
    error_type: 7,
    other_error_type: None,
    severity: 3,
    probable_cause: 117,
    description: "The initiator does not know the secret.",
    status: 2,
    message: "Login of %1 to %2 was refused: CHAP authentication failed",
    arguments: &["the initiator", "the target"],
    actions: &["Compare user name and secret on both sides."],
};

pub(crate) const LOGIN_NOT_AUTHORIZED: MessageRow = MessageRow {
    id: "ISCT-SCS-002",
    error_code: 502,
    error_type: 7,
    other_error_type: None,
    severity: 3,
    probable_cause: 65,
    description: "The target is not meant for this initiator.",
    status: 2,
    message: "Login of %1 to %2 was refused: the initiator is not allowed to use it",
    arguments: &["the initiator", "the target"],
    actions: &["Allow the initiator, if it should use the target."],
};

pub(crate) const LOGIN_UNAVAILABLE: MessageRow = MessageRow {
    id: "ISCT-SCS-003",
    error_code: 503,
    error_type: 9,
    other_error_type: None,
    severity: 3,
    probable_cause: 128,
    description: "The target takes no sessions now, or no more of them. Kin: SNIA DRM26.",
    status: 1,
    message: "Login of %1 to %2 was refused: %3",
    arguments: &["the initiator", "the target", "the reason"],
    actions: &["Enable the target, or log sessions out that are not needed."],
};

pub(crate) const SESSION_DROPPED: MessageRow = MessageRow {
    id: "ISCT-SCS-004",
    error_code: 504,
    error_type: 2,
    other_error_type: None,
    severity: 3,
    probable_cause: 6,
    description: "A session ended without a logout.",
    status: 1,
    message: "The session of %1 with %2 ended: %3",
    arguments: &["the initiator", "the target", "the reason"],
    actions: &["Check the network between the two, and the initiator's log."],
};

pub(crate) const PROTOCOL_ERROR: MessageRow = MessageRow {
    id: "ISCT-SCS-005",
    error_code: 505,
    error_type: 2,
    other_error_type: None,
    severity: 4,
    probable_cause: 6,
    description: "A digest error, or a message that breaks the protocol.",
    status: 1,
    message: "Protocol error of %1: %2",
    arguments: &["the initiator", "what was wrong"],
    actions: &["Check the network for damaged packets, and update the initiator."],
};

pub(crate) const LAST_ADMINISTRATOR: MessageRow = MessageRow {
    id: "ISCT-ACC-001",
    error_code: 601,
    error_type: 7,
    other_error_type: None,
    severity: 4,
    probable_cause: 129,
    description: "Without an administrator nobody could let anybody in.",
    status: 1,
    message: "%1 is the last administrator and stays one",
    arguments: &["the user"],
    actions: &["Make another user administrator first."],
};

pub(crate) const LOST_SPACE: MessageRow = MessageRow {
    id: "ISCT-STG-015",
    error_code: 115,
    error_type: 4,
    other_error_type: None,
    severity: 3,
    probable_cause: 48,
    description: "A crash has left space in the image that nothing in it refers to. No data is harmed.",
    status: 1,
    message: "The image %1 has %2 bytes that nothing in it uses",
    arguments: &["the file", "how many bytes"],
    actions: &["Check the disk with repair while it is not exposed: that frees the space."],
};

pub(crate) const UNKNOWN_JOB: MessageRow = MessageRow {
    id: "ISCT-JOB-011",
    error_code: 211,
    error_type: 4,
    other_error_type: None,
    severity: 4,
    probable_cause: 58,
    description: "Another version of the program submitted the job; this one does not know what is to be done.",
    status: 1,
    message: "The job is to do what this version of the program does not know: %1",
    arguments: &["what it is to do"],
    actions: &[
        "Submit the job again with what this version can do.",
        "Install the version that submitted it.",
    ],
};

pub(crate) const POOL_UNAVAILABLE: MessageRow = MessageRow {
    id: "ISCT-STG-016",
    error_code: 116,
    error_type: 9,
    other_error_type: None,
    severity: 6,
    probable_cause: 73,
    description: "The directory of a pool is gone, its file system is not mounted or does not answer. Its disks are not ready until it is back. Kin: SNIA DRM26.",
    status: 1,
    message: "Pool %1 cannot be used: %2 (%3)",
    arguments: &["the pool", "its directory", "why"],
    actions: &[
        "Mount the file system of the pool; its disks become ready by themselves.",
        "Read the kernel's log for errors of the device that holds it.",
    ],
};

pub(crate) const POOL_NEARLY_FULL: MessageRow = MessageRow {
    id: "ISCT-STG-017",
    error_code: 117,
    error_type: 8,
    other_error_type: None,
    severity: 3,
    probable_cause: 51,
    description: "The free space of a pool is below a soft threshold; initiators of its thin disks are warned (THIN PROVISIONING SOFT THRESHOLD REACHED).",
    status: 1,
    message: "Pool %1 has %2 free bytes, less than the threshold of %3",
    arguments: &["the pool", "free bytes", "the threshold in bytes"],
    actions: &["Free space in the pool's file system, or move disks to another pool."],
};

pub(crate) const POOL_EXHAUSTED: MessageRow = MessageRow {
    id: "ISCT-STG-018",
    error_code: 118,
    error_type: 8,
    other_error_type: None,
    severity: 5,
    probable_cause: 50,
    description: "The free space of a pool is below its hard threshold; writes of thin disks that need more space are refused (SPACE ALLOCATION FAILED WRITE PROTECT).",
    status: 1,
    message: "Pool %1 has %2 free bytes, less than the hard threshold of %3: thin disks take no more",
    arguments: &["the pool", "free bytes", "the threshold in bytes"],
    actions: &["Free space in the pool's file system, or move disks to another pool."],
};

pub(crate) const DATA_DIFFER: MessageRow = MessageRow {
    id: "ISCT-STG-019",
    error_code: 119,
    error_type: 5,
    other_error_type: None,
    severity: 6,
    probable_cause: 10,
    description: "Checksums of an earlier check do not fit data that nobody has written since: the medium, or what lies between, has lost or changed them without an error. Blocks are told of in regions of 1 MiB or more, of which at least one byte differs.",
    status: 1,
    message: "Data lost: logical blocks %2 to %3 of %1 are not what they were at %4, and nobody has written to it since",
    arguments: &[
        "the image's file",
        "the first logical block",
        "the last logical block",
        "when the checksums were made",
    ],
    actions: &[
        "Restore these blocks from a copy, or from another snapshot whose check finds its data whole.",
        "Read the kernel's log for errors of the device that holds the file, and check its file system.",
    ],
};

/// All messages, in the order of their codes.
pub const ROWS: &[MessageRow] = &[
    OUT_OF_SPACE,
    LIMIT_REACHED,
    MEDIUM_ERROR,
    MISSING,
    IMAGE_LOCKED,
    CORRUPT,
    BAD_FORMAT,
    PARENT_MISMATCH,
    WRITE_PROTECTED,
    OUT_OF_MEMORY,
    SYNC_FAILED,
    FILE_EXISTS,
    UNSUPPORTED_OPERATION,
    NO_REFLINKS,
    LOST_SPACE,
    POOL_UNAVAILABLE,
    POOL_NEARLY_FULL,
    POOL_EXHAUSTED,
    DATA_DIFFER,
    CANCELLED,
    KILLED,
    RESTARTED_DURING_JOB,
    COULD_NOT_START,
    INVALID_TRANSITION,
    TIME_LIMIT,
    PANIC,
    CLEANUP_FAILED,
    JOB_NOT_ENDED,
    DEPENDENCY_FAILED,
    UNKNOWN_JOB,
    DISK_IN_USE,
    NAME_IN_USE,
    BAD_SIZE,
    BAD_NAME,
    NOT_FOUND,
    TARGET_IN_USE,
    BAD_VALUE,
    TAIL_IN_USE,
    POOL_IN_USE,
    CHANGED_MEANWHILE,
    STORE_UNAVAILABLE,
    STORE_REPLACED,
    STORE_NEARLY_FULL,
    SHUTTING_DOWN,
    RECORDS_DAMAGED,
    LOGIN_CHAP_FAILED,
    LOGIN_NOT_AUTHORIZED,
    LOGIN_UNAVAILABLE,
    SESSION_DROPPED,
    PROTOCOL_ERROR,
    LAST_ADMINISTRATOR,
];
