use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use disk_image::{ImageError, ImageErrorKind, Operation};

use super::*;
use crate::id::{DiskId, JobId, PoolId};
use crate::job::Element;

/// The highest placeholder, and how often placeholders stand in a text.
fn placeholders(text: &str) -> BTreeSet<usize> {
    text.split('%')
        .skip(1)
        .map(|after| {
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or_else(|_| panic!("a lone % in `{text}`"))
        })
        .collect()
}

#[test]
fn every_message_has_an_id_and_a_code_of_its_own() {
    let ids: BTreeSet<_> = ROWS.iter().map(|row| row.id).collect();
    let codes: BTreeSet<_> = ROWS.iter().map(|row| row.error_code).collect();
    assert_eq!((ids.len(), codes.len()), (ROWS.len(), ROWS.len()));
    assert!(!codes.contains(&0), "0 means that nothing went wrong");
    assert!(!codes.contains(&u16::MAX), "that stands for a message that is not known");
    assert!(ROWS.is_sorted_by_key(|row| row.error_code));
    for row in ROWS {
        let (area, number) = row.id.strip_prefix("ISCT-").unwrap().split_once('-').unwrap();
        assert!(area.bytes().all(|byte| byte.is_ascii_uppercase()), "{}", row.id);
        let number: u16 = number.parse().unwrap();
        assert_eq!(number, row.error_code % 100, "{}", row.id);
        let hundred = row.error_code / 100;
        let wanted = match area {
            "STG" => 1,
            "JOB" => 2,
            "CFG" => 3,
            "DB" => 4,
            "SCS" => 5,
            "ACC" => 6,
            other => panic!("{other}"),
        };
        assert_eq!(hundred, wanted, "{}", row.id);
    }
}

#[test]
fn placeholders_are_exactly_the_arguments() {
    for row in ROWS {
        let wanted: BTreeSet<_> = (1..=row.arguments.len()).collect();
        assert_eq!(placeholders(row.message), wanted, "{}", row.id);
    }
}

#[test]
fn numbers_are_such_as_cim_defines_and_every_text_is_there() {
    for row in ROWS {
        assert!((1..=10).contains(&row.error_type), "{}", row.id);
        assert_eq!(row.other_error_type.is_some(), row.error_type == 1, "{}", row.id);
        assert!((2..=7).contains(&row.severity), "{}", row.id);
        // 0 is Unknown and 1 is Other: allowed only where nothing failed.
        assert!(row.probable_cause > 1 || row.error_type == 1, "{}", row.id);
        assert!(row.probable_cause <= 130, "{}", row.id);
        assert_ne!(row::status_name(row.status), "CIM_ERR", "{}", row.id);
        assert!(row.description.ends_with('.') && !row.actions.is_empty(), "{}", row.id);
        assert!(row.actions.iter().all(|action| action.ends_with('.')), "{}", row.id);
    }
}

fn context() -> ImageContext {
    ImageContext::new(Operation::Read, "/pool/disk.raw")
}

fn image_causes() -> Vec<Cause> {
    vec![
        Cause::MediumError { context: context() },
        Cause::Missing { context: context() },
        Cause::ImageLocked { context: context() },
        Cause::Corrupt { context: context() },
        Cause::BadFormat { context: context() },
        Cause::WriteProtected { context: context() },
        Cause::OutOfMemory { context: context() },
        Cause::SyncFailed { context: context() },
        Cause::FileExists { context: context() },
        Cause::UnsupportedOperation { context: context() },
    ]
}

/// One of each.
fn causes() -> Vec<Cause> {
    let text = |text: &str| text.to_owned();
    let (initiator, target) = (text("iqn.host"), text("iqn.target"));
    let place = PathBuf::from("/pool");
    let mut all = image_causes();
    all.extend([
        Cause::OutOfSpace {
            what: text("create"),
            place: place.clone(),
            needed: 10,
            available: None,
        },
        Cause::LimitReached { what: text("targets"), limit: 9 },
        Cause::ParentMismatch { path: place.clone(), reason: "it is gone".to_owned() },
        Cause::Cancelled { by: text("root") },
        Cause::Killed { by: text("root") },
        Cause::RestartedDuringJob { step: text("step") },
        Cause::CouldNotStart { reason: text("no thread") },
        Cause::InvalidTransition { job: text("J"), state: text("New"), request: text("start") },
        Cause::TimeLimit { seconds: 60 },
        Cause::DataDiffer {
            path: PathBuf::from("/a"),
            first: 2048,
            last: 4095,
            made: jiff::Timestamp::UNIX_EPOCH,
        },
        Cause::LostSpace { path: PathBuf::from("/a"), bytes: 7 },
        Cause::UnknownJob { what: "fly".to_owned() },
        Cause::Panic { message: text("index") },
        Cause::CleanupFailed { path: place.clone(), reason: text("busy") },
        Cause::JobNotEnded { job: text("J"), state: text("New") },
        Cause::DiskInUse { disk: text("d"), holder: text("LUN 1") },
        Cause::NameInUse { what: text("LUN"), name: text("1") },
        Cause::BadSize { size: 1, reason: text("odd"), nearest: None },
        Cause::BadName { what: text("disk"), name: text("/"), reason: text("slash") },
        Cause::NotFound { what: text("disk"), name: text("d") },
        Cause::TargetInUse { target: target.clone(), mappings: 3 },
        Cause::PoolUnavailable { pool: text("a"), directory: place.clone(), reason: text("gone") },
        Cause::PoolNearlyFull { pool: text("a"), free: 17, threshold: 29 },
        Cause::PoolExhausted { pool: text("a"), free: 17, threshold: 29 },
        Cause::PoolInUse { pool: text("a"), disks: 31, jobs: 27 },
        Cause::BadValue { property: text("p"), reason: text("r") },
        Cause::DependencyFailed { job: text("1"), state: text("Killed") },
        Cause::TailInUse { disk: text("a"), first: 8, size: 4 },
        Cause::NoReflinks { path: place.clone() },
        Cause::StoreUnavailable { reason: text("full") },
        Cause::LastAdministrator { user: text("root") },
        Cause::StoreReplaced { moved_to: place.clone(), restored: 4 },
        Cause::RecordsDamaged { damaged: 5, restored: 4 },
        Cause::StoreNearlyFull { place, available: 1, needed: 2 },
        Cause::ShuttingDown,
        Cause::ChangedMeanwhile,
        Cause::LoginChapFailed { initiator: initiator.clone(), target: target.clone() },
        Cause::LoginNotAuthorized { initiator: initiator.clone(), target: target.clone() },
        Cause::LoginUnavailable {
            initiator: initiator.clone(),
            target: target.clone(),
            reason: text("off"),
        },
        Cause::SessionDropped { initiator: initiator.clone(), target, reason: text("reset") },
        Cause::ProtocolError { initiator, reason: text("digest") },
    ]);
    all
}

#[test]
fn every_cause_has_a_message_of_its_own_and_fills_all_of_its_placeholders() {
    let causes = causes();
    let rows: BTreeSet<_> = causes.iter().map(|cause| cause.row().id).collect();
    assert_eq!(rows.len(), causes.len(), "one message per cause");
    let all: BTreeSet<_> = ROWS.iter().map(|row| row.id).collect();
    assert_eq!(rows, all, "and no message without a cause");
    let paths = ObjectPaths::new("host");
    for cause in &causes {
        let row = cause.row();
        assert_eq!(cause.arguments().len(), row.arguments.len(), "{cause:?}");
        let error = cause.to_cim_error(None, &paths);
        assert!(!error.message.contains('%'), "{}", error.message);
        for argument in &error.message_arguments {
            assert!(error.message.contains(argument), "{argument} in {}", error.message);
        }
        assert_eq!(error.error_code(), row.error_code);
        assert_eq!((error.error_source, error.error_source_format), (None, 0));
    }
}

#[test]
fn an_argument_with_a_percent_sign_is_not_taken_for_a_placeholder() {
    let cause = Cause::NotFound { what: "disk".to_owned(), name: "50%1 %2".to_owned() };
    let error = cause.to_cim_error(None, &ObjectPaths::new("host"));
    assert_eq!(error.message, "There is no disk 50%1 %2");
}

#[test]
fn an_errno_leads_to_the_cause_and_the_message_that_operators_look_for() {
    for (errno, id) in [
        (28, "ISCT-STG-001"),  // ENOSPC
        (122, "ISCT-STG-001"), // EDQUOT
        (5, "ISCT-STG-003"),   // EIO
        (22, "ISCT-STG-003"),  // EINVAL: no better name
        (2, "ISCT-STG-004"),   // ENOENT
        (20, "ISCT-STG-004"),  // ENOTDIR
        (19, "ISCT-STG-004"),  // ENODEV
        (116, "ISCT-STG-004"), // ESTALE
        (16, "ISCT-STG-005"),  // EBUSY
        (21, "ISCT-STG-007"),  // EISDIR
        (30, "ISCT-STG-009"),  // EROFS
        (13, "ISCT-STG-009"),  // EACCES
        (1, "ISCT-STG-009"),   // EPERM
        (12, "ISCT-STG-010"),  // ENOMEM
        (24, "ISCT-STG-010"),  // EMFILE
        (23, "ISCT-STG-010"),  // ENFILE
        (17, "ISCT-STG-012"),  // EEXIST
        (27, "ISCT-STG-013"),  // EFBIG
        (95, "ISCT-STG-013"),  // EOPNOTSUPP
    ] {
        let path = Path::new("/pool/disk.raw");
        let source = std::io::Error::from_raw_os_error(errno);
        let words = source.to_string();
        let image = ImageError::from_io(Operation::Write, path, source).at(4096, 512);
        let cause = Cause::from(&image);
        assert_eq!(cause.row().id, id, "{words}");
        let disk = Element::Disk(DiskId::generate());
        let error = cause.to_cim_error(Some(&disk), &ObjectPaths::new("host"));
        assert!(error.message.contains("/pool"), "{}", error.message);
        assert!(error.message.contains("512"), "{}", error.message);
        if id != "ISCT-STG-001" {
            for part in ["write", "disk.raw", "at byte 4096", words.as_str()] {
                assert!(error.message.contains(part), "{part} in {}", error.message);
            }
        }
        assert_eq!(error.error_source_format, 2);
    }
}

#[test]
fn kinds_that_no_errno_stands_for_have_their_messages_too() {
    let row = |kind| Cause::from_image(kind, context()).row().id;
    assert_eq!(row(ImageErrorKind::SyncFailed), "ISCT-STG-011");
    assert_eq!(row(ImageErrorKind::Corrupt), "ISCT-STG-006");
    assert_eq!(row(ImageErrorKind::InvalidFormat), "ISCT-STG-007");
    assert_eq!(row(ImageErrorKind::ShortTransfer), "ISCT-STG-003");
    assert_eq!(row(ImageErrorKind::InUse), "ISCT-STG-005");
    assert_eq!(row(ImageErrorKind::Cancelled), "ISCT-JOB-001");
    // EAGAIN from a lock is a lock that somebody has.
    let source = std::io::Error::from_raw_os_error(11);
    let locked = ImageError::from_io(Operation::Lock, Path::new("/x"), source);
    assert_eq!(Cause::from(&locked).row().id, "ISCT-STG-005");
}

#[test]
fn out_of_space_names_the_directory_and_both_sizes() {
    let cause = Cause::OutOfSpace {
        what: "create disk a".to_owned(),
        place: PathBuf::from("/pool"),
        needed: 1 << 40,
        available: Some(1 << 30),
    };
    let error = cause.to_cim_error(None, &ObjectPaths::new("host"));
    let wanted = "Not enough capacity: cannot create disk a in /pool, which needs 1099511627776 \
                  bytes; 1073741824 bytes are available";
    assert_eq!(error.message, wanted);
    assert_eq!((error.error_type, error.probable_cause, error.perceived_severity), (8, 50, 5));
    assert_eq!(error.owning_entity, OWNING_ENTITY);
    assert_eq!(error.cim_status_code_description.as_deref(), Some("CIM_ERR_FAILED"));
}

#[test]
fn every_element_has_an_object_path_that_escapes_its_keys() {
    let paths = ObjectPaths::new("a\"b");
    let (disk, job) = (DiskId::generate(), JobId::generate());
    let of_disk = paths.of(&Element::Disk(disk));
    assert!(of_disk.starts_with(&format!("{NAMESPACE}:MSISCSITARGET_StorageVolume.")), "{of_disk}");
    assert!(of_disk.contains(&format!("DeviceID=\"{disk}\"")), "{of_disk}");
    assert!(of_disk.ends_with("SystemName=\"a\\\"b\""), "{of_disk}");
    let of_job = paths.of(&Element::Job(job));
    assert!(of_job.ends_with(&format!("InstanceID=\"{}\"", job.instance_id())), "{of_job}");
    let of_pool = paths.of(&Element::Pool(PoolId::default()));
    assert!(of_pool.ends_with("InstanceID=\"MSISCSITARGET:pool:default\""), "{of_pool}");
    let of_target = paths.of(&Element::Target("iqn.x\\".to_owned()));
    assert!(of_target.contains("DeviceID=\"iqn.x\\\\\""), "{of_target}");
}

#[test]
fn a_message_of_a_newer_version_is_still_a_failure() {
    let mut error = Cause::ShuttingDown.to_cim_error(None, &ObjectPaths::new("host"));
    error.message_id = "ISCT-NEW-001".to_owned();
    assert_ne!(error.error_code(), 0);
    let json = serde_json::to_string(&error).unwrap();
    assert_eq!(serde_json::from_str::<CimError>(&json).unwrap(), error);
}

#[test]
fn docs_messages_md_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/messages.md");
    let wanted = messages_document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let help = "UPDATE_DOCS=1 cargo test -p job-engine messages";
    assert!(found == wanted, "{} is out of date: {help}", path.display());
    for row in ROWS {
        assert!(found.contains(&format!("\n## {}\n", row.id)), "{}", row.id);
    }
}
