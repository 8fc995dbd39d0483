//! Counts of the host and of sessions: `CIM_BlockStorageStatisticalData` and its kin.

use jiff::Timestamp;
use job_engine::INSTANCE_ID_PREFIX;

use super::instances::{Part, Space, View, by_id, link};
use super::path::ObjectPath;
use super::ports;
use super::time;
use super::value::Instance;
use crate::api::SessionDetail;

const BLOCK: &str = "LUND_BlockStorageStatisticalData";
const SESSION: &str = "LUND_iSCSISessionStatistics";
const COLLECTION: &str = "LUND_StatisticsCollection";
const OF_ELEMENT: &str = "LUND_ElementStatisticalData";
const MEMBER: &str = "LUND_MemberOfCollection";
const HOSTED: &str = "LUND_HostedCollection";

const SYSTEM_ID: &str = "MSISCSITARGET:statistics:system";
const COLLECTION_ID: &str = "MSISCSITARGET:statistics";

/// These classes.
pub(crate) const PART: Part = Part {
    elements: &[(BLOCK, Space::Storage), (SESSION, Space::Storage), (COLLECTION, Space::Storage)],
    links: &[(OF_ELEMENT, Space::Storage), (MEMBER, Space::Storage), (HOSTED, Space::Storage)],
    instances,
};

fn instances(view: &View<'_>, class: &str) -> Vec<Instance> {
    match class {
        BLOCK => of_system(view).into_iter().collect(),
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
            system.into_iter().chain(sessions).collect()
        }
        MEMBER => {
            let member = || {
                let whole = ("Collection", by_id(COLLECTION, COLLECTION_ID));
                link(MEMBER, whole, ("Member", by_id(BLOCK, SYSTEM_ID)))
            };
            view.totals().map(|_| member()).into_iter().collect()
        }
        HOSTED => {
            let collection = ("Dependent", by_id(COLLECTION, COLLECTION_ID));
            vec![link(HOSTED, ("Antecedent", view.system_path()), collection)]
        }
        _ => Vec::new(),
    }
}

fn session_id(tsih: u16) -> String {
    format!("{INSTANCE_ID_PREFIX}statistics:session:{tsih}")
}

fn data(class: &str, id: &str, name: &str) -> Instance {
    Instance::new(class)
        .with("InstanceID", id)
        .with("ElementName", name)
        .with("StatisticTime", time::datetime(Timestamp::now()))
}

/// Everything that initiators have read and written since the daemon's start.
fn of_system(view: &View<'_>) -> Option<Instance> {
    let counted = view.totals()?;
    let kib = |bytes: u64| bytes / 1024;
    let all = data(BLOCK, SYSTEM_ID, view.system)
        // The computer system.
        .with("ElementType", 2_u16)
        .with("TotalIOs", counted.read_commands.saturating_add(counted.write_commands))
        .with("KBytesTransferred", kib(counted.read_bytes.saturating_add(counted.written_bytes)))
        .with("ReadIOs", counted.read_commands)
        .with("KBytesRead", kib(counted.read_bytes))
        .with("WriteIOs", counted.write_commands)
        .with("KBytesWritten", kib(counted.written_bytes));
    Some(all)
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
