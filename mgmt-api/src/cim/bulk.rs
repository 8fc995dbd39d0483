//! Counts in bulk: `CIM_BlockStatisticsService`, and the manifests that say what it tells.

use super::fault::Fault;
use super::instances::{Part, Space, View, by_id, link};
use super::methods::{COMPLETED, INVALID_PARAMETER, Inputs, Outcome};
use super::operations::Work;
use super::path::ObjectPath;
use super::statistics::{BLOCK, COLLECTION, COLLECTION_ID, MEMBER};
use super::value::{Instance, Value};

pub(crate) const BULK_SERVICE: &str = "LUND_BlockStatisticsService";
pub(crate) const BULK_CAPABILITIES: &str = "LUND_BlockStatisticsCapabilities";
const MANIFEST: &str = "LUND_BlockStatisticsManifest";
const MANIFESTS: &str = "LUND_BlockStatisticsManifestCollection";
const ASSOCIATED: &str = "LUND_AssociatedBlockStatisticsManifestCollection";

/// `InstanceID` of its capabilities.
pub(crate) const BULK_CAPABILITIES_ID: &str = "MSISCSITARGET:capabilities:statistics";
const MANIFESTS_ID: &str = "MSISCSITARGET:statistics:manifests";

/// `ElementType`: the computer system, and volumes.
const TYPES: [(u16, &str); 2] = [(2, "Computer system"), (8, "Volume")];
/// The last one that the class knows.
const LAST_TYPE: u64 = 12;

/// `CSVSequence`
const SEQUENCE: [&str; 9] = [
    "InstanceID",
    "ElementType",
    "StatisticTime",
    "TotalIOs",
    "KBytesTransferred",
    "ReadIOs",
    "KBytesRead",
    "WriteIOs",
    "KBytesWritten",
];

/// These classes.
pub(crate) const PART: Part = Part {
    elements: &[
        (BULK_SERVICE, Space::Storage),
        (BULK_CAPABILITIES, Space::Storage),
        (MANIFEST, Space::Storage),
        (MANIFESTS, Space::Storage),
    ],
    links: &[(ASSOCIATED, Space::Storage)],
    instances,
};

fn instances(view: &View<'_>, class: &'static str) -> Vec<Instance> {
    match class {
        BULK_SERVICE => vec![view.service(BULK_SERVICE, "Block statistics")],
        BULK_CAPABILITIES => vec![capabilities()],
        MANIFEST => TYPES.into_iter().map(manifest).collect(),
        MANIFESTS => {
            let all = Instance::new(MANIFESTS).with("InstanceID", MANIFESTS_ID);
            vec![all.with("ElementName", "Everything").with("IsDefault", true)]
        }
        ASSOCIATED => {
            let counts = ("Statistics", by_id(COLLECTION, COLLECTION_ID));
            vec![link(ASSOCIATED, counts, ("ManifestCollection", collection_path()))]
        }
        _ => Vec::new(),
    }
}

/// The one collection of manifests.
pub(crate) fn collection_path() -> ObjectPath {
    by_id(MANIFESTS, MANIFESTS_ID)
}

fn manifest_id(element_type: u16) -> String {
    format!("MSISCSITARGET:statistics:manifest:{element_type}")
}

/// The manifests in their collection.
pub(crate) fn members() -> impl Iterator<Item = Instance> {
    TYPES.into_iter().map(|(element_type, _)| {
        let manifest = ("Member", by_id(MANIFEST, &manifest_id(element_type)));
        link(MEMBER, ("Collection", collection_path()), manifest)
    })
}

fn manifest((element_type, name): (u16, &str)) -> Instance {
    let manifest = Instance::new(MANIFEST)
        .with("InstanceID", manifest_id(element_type))
        .with("ElementName", name)
        .with("ElementType", element_type)
        .with("CSVSequence", Value::texts(SEQUENCE));
    // What says which element it is is always told.
    let told = SEQUENCE.iter().skip(2);
    told.fold(manifest, |manifest, name| manifest.with(format!("Include{name}"), true))
}

/// Lists of what there is none of are empty, not absent.
fn capabilities() -> Instance {
    Instance::new(BULK_CAPABILITIES)
        .with("InstanceID", BULK_CAPABILITIES_ID)
        .with("ElementName", "Block statistics")
        .with("ElementTypesSupported", Value::numbers(&TYPES.map(|(number, _)| number)))
        // GetStatisticsCollection.
        .with("SynchronousMethodsSupported", Value::numbers(&[4]))
        .with("AsynchronousMethodsSupported", Value::numbers(&[]))
        .with("ElementTypeFeatures", Value::numbers(&[]))
        .with("SupportedFeatures", Value::numbers(&[2]))
}

/// An element's counts; nothing in them has a comma.
fn line(counts: &Instance) -> String {
    let text = |name: &&str| {
        let value = counts.get(name)?;
        value.as_text().map(str::to_owned).or_else(|| value.as_uint().map(|it| it.to_string()))
    };
    SEQUENCE.iter().map(|name| text(name).unwrap_or_default()).collect::<Vec<_>>().join(",")
}

impl Work<'_> {
    /// `GetStatisticsCollection`, as CSV.
    pub(crate) fn bulk(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const CSV: u64 = 2;
        const TYPE_NOT_SUPPORTED: u32 = 4097;
        const FORMAT_NOT_SUPPORTED: u32 = 4098;
        let format = inputs.get("StatisticsFormat").and_then(Value::as_uint);
        if format.is_some_and(|format| format != CSV) {
            return Ok(Outcome::of(FORMAT_NOT_SUPPORTED));
        }
        if let Some(path) = inputs.reference("ManifestCollection")
            && self.existing(path)?.class != MANIFESTS
        {
            return Ok(Outcome::of(INVALID_PARAMETER));
        }
        let wanted = inputs.get("ElementTypes").map(|_| inputs.numbers("ElementTypes"));
        let known = |number: &u64| TYPES.iter().any(|(own, _)| u64::from(*own) == *number);
        for number in wanted.iter().flatten() {
            if !known(number) {
                let exists = (2..=LAST_TYPE).contains(number);
                return Ok(Outcome::of(if exists {
                    TYPE_NOT_SUPPORTED
                } else {
                    INVALID_PARAMETER
                }));
            }
        }
        let asked = |counts: &Instance| {
            let element_type = counts.get("ElementType").and_then(Value::as_uint);
            wanted.as_ref().is_none_or(|all| all.iter().any(|it| Some(*it) == element_type))
        };
        let all = self.view.instances(BLOCK).into_iter();
        let lines: Vec<String> = all.filter(asked).map(|counts| line(&counts)).collect();
        Ok(Outcome::of(COMPLETED).with("Statistics", Value::texts(lines)))
    }
}
