//! Counts of the host, of volumes and of sessions: `CIM_BlockStorageStatisticalData` and its kin.

use std::collections::HashMap;

use jiff::Timestamp;
use job_engine::{Disk, INSTANCE_ID_PREFIX};

use super::bulk;
use super::instances::{Part, Space, View, by_id, link};
use super::path::ObjectPath;
use super::ports;
use super::time;
use super::value::Instance;
use crate::api::SessionDetail;
use crate::service::{Host, TotalCounters, UnitCounters};

pub(crate) const BLOCK: &str = "LUND_BlockStorageStatisticalData";
const SESSION: &str = "LUND_iSCSISessionStatistics";
pub(crate) const COLLECTION: &str = "LUND_StatisticsCollection";
const OF_ELEMENT: &str = "LUND_ElementStatisticalData";
pub(crate) const MEMBER: &str = "LUND_MemberOfCollection";
const HOSTED: &str = "LUND_HostedCollection";

const SYSTEM_ID: &str = "MSISCSITARGET:statistics:system";
pub(crate) const COLLECTION_ID: &str = "MSISCSITARGET:statistics";

/// These classes.
pub(crate) const PART: Part = Part {
    elements: &[(BLOCK, Space::Storage), (SESSION, Space::Storage), (COLLECTION, Space::Storage)],
    links: &[(OF_ELEMENT, Space::Storage), (MEMBER, Space::Storage), (HOSTED, Space::Storage)],
    instances,
};

fn instances(view: &View<'_>, class: &'static str) -> Vec<Instance> {
    match class {
        BLOCK => of_system(view).into_iter().chain(volumes(view).map(of_volume)).collect(),
        SESSION => view.sessions().iter().map(of_session).collect(),
        COLLECTION => vec![collection()],
        OF_ELEMENT => {
            let of = |element: ObjectPath, its: ObjectPath| {
                link(OF_ELEMENT, ("ManagedElement", element), ("Stats", its))
            };
            let system = view.totals().map(|_| of(view.system_path(), by_id(BLOCK, SYSTEM_ID)));
            let sessions = view.sessions().iter().map(|it| {
                let tsih = it.session.tsih;
                of(ports::session_path(tsih), by_id(SESSION, &session_id(tsih)))
            });
            let volumes = volumes(view)
                .map(|(disk, _)| of(view.volume_path(disk.id), by_id(BLOCK, &volume_id(disk))));
            system.into_iter().chain(volumes).chain(sessions).collect()
        }
        MEMBER => {
            let member = |id: &str| {
                let whole = ("Collection", by_id(COLLECTION, COLLECTION_ID));
                link(MEMBER, whole, ("Member", by_id(BLOCK, id)))
            };
            let system = view.totals().map(|_| member(SYSTEM_ID));
            let volumes = volumes(view).map(|(disk, _)| member(&volume_id(disk)));
            system.into_iter().chain(volumes).chain(bulk::members()).collect()
        }
        HOSTED => {
            let hosted =
                |path| link(HOSTED, ("Antecedent", view.system_path()), ("Dependent", path));
            vec![hosted(by_id(COLLECTION, COLLECTION_ID)), hosted(bulk::collection_path())]
        }
        _ => Vec::new(),
    }
}

fn session_id(tsih: u16) -> String {
    format!("{INSTANCE_ID_PREFIX}statistics:session:{tsih}")
}

fn volume_id(disk: &Disk) -> String {
    format!("{INSTANCE_ID_PREFIX}statistics:volume:{}", disk.id)
}

/// Disks that are exposed, with what they have done since.
fn volumes<'v>(view: &'v View<'_>) -> impl Iterator<Item = (&'v Disk, UnitCounters)> {
    let counted = view.host().map(Host::units).unwrap_or_default().into_iter();
    let mut counted: HashMap<_, _> = counted.map(|it| (it.disk.clone(), it)).collect();
    let disks = view.snapshot().disks.iter();
    disks.filter_map(move |disk| Some((disk, counted.remove(&disk.id.to_string())?)))
}

fn data(class: &'static str, id: &str, name: &str) -> Instance {
    Instance::new(class)
        .with("InstanceID", id)
        .with("ElementName", name)
        .with("StatisticTime", time::datetime(Timestamp::now()))
}

/// Everything that initiators have read and written since the daemon's start.
fn of_system(view: &View<'_>) -> Option<Instance> {
    let TotalCounters { read_commands, write_commands, read_bytes, written_bytes, .. } =
        view.totals()?;
    // The computer system.
    let all = data(BLOCK, SYSTEM_ID, view.system).with("ElementType", 2_u16);
    Some(counts(all, (read_commands, read_bytes), (write_commands, written_bytes)))
}

fn of_volume((disk, counted): (&Disk, UnitCounters)) -> Instance {
    let UnitCounters { read_commands, write_commands, read_bytes, written_bytes, .. } = counted;
    // A volume.
    let all = data(BLOCK, &volume_id(disk), &disk.name).with("ElementType", 8_u16);
    counts(all, (read_commands, read_bytes), (write_commands, written_bytes))
}

/// Commands and bytes.
fn counts(instance: Instance, read: (u64, u64), written: (u64, u64)) -> Instance {
    // As the class has it: 1000 bytes.
    let kilobytes = |bytes: u64| bytes / 1000;
    instance
        .with("TotalIOs", read.0.saturating_add(written.0))
        .with("KBytesTransferred", kilobytes(read.1.saturating_add(written.1)))
        .with("ReadIOs", read.0)
        .with("KBytesRead", kilobytes(read.1))
        .with("WriteIOs", written.0)
        .with("KBytesWritten", kilobytes(written.1))
}

fn of_session(detail: &SessionDetail) -> Instance {
    let (session, counters) = (&detail.session, &detail.counters);
    data(SESSION, &session_id(session.tsih), &session.initiator)
        .with("StartStatisticTime", time::datetime(session.since))
        .with("CommandPDUsTransferred", session.commands)
        .with("ResponsePDUsTransferred", counters.pdus_sent)
        .with("BytesTransmitted", session.read_bytes)
        .with("BytesReceived", session.written_bytes)
        .with("DigestErrors", counters.data_digest_errors)
}

fn collection() -> Instance {
    Instance::new(COLLECTION)
        .with("InstanceID", COLLECTION_ID)
        .with("ElementName", "Block storage")
        // As of the moment of the question.
        .with("SampleInterval", time::interval(std::time::Duration::ZERO))
        .with("TimeLastSampled", time::datetime(Timestamp::now()))
}
