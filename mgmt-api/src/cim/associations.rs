//! Associations as instances, and the way from an element to its neighbours.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;

use job_engine::{AffectedElement, Disk, Element, ElementEffect, Job};

use super::instances::{Space, View, capabilities_path, job_path, pool_path};
use super::path::ObjectPath;
use super::value::{Instance, Value};

const AFFECTED: &str = "MSISCSITARGET_AffectedJobElement";
const OWNING: &str = "MSISCSITARGET_OwningJobElement";
const HOSTED_SERVICE: &str = "MSISCSITARGET_HostedService";
const HOSTED_POOL: &str = "MSISCSITARGET_HostedStoragePool";
const SYSTEM_DEVICE: &str = "MSISCSITARGET_SystemDevice";
const ALLOCATED: &str = "MSISCSITARGET_AllocatedFromStoragePool";
const FOR_UNIT: &str = "MSISCSITARGET_ProtocolControllerForUnit";

const CAPABLE: &str = "MSISCSITARGET_ElementCapabilities";

/// The associations that have instances.
pub(crate) const CLASSES: [&str; 8] =
    [AFFECTED, OWNING, HOSTED_SERVICE, HOSTED_POOL, SYSTEM_DEVICE, ALLOCATED, FOR_UNIT, CAPABLE];

/// All instances of exactly this class.
pub(crate) fn instances(view: &View<'_>, class: &str) -> Vec<Instance> {
    let link = |from: (&str, ObjectPath), to: (&str, ObjectPath)| {
        Instance::new(class).with(from.0, from.1).with(to.0, to.1)
    };
    let state = || view.snapshot();
    match class {
        AFFECTED => state().jobs.iter().flat_map(|job| affected(view, job)).collect(),
        OWNING => {
            let owned = |job: &Job| {
                link(("OwningElement", view.service_path()), ("OwnedElement", job_path(&job.id)))
            };
            state().jobs.iter().map(owned).collect()
        }
        HOSTED_SERVICE => {
            vec![link(("Antecedent", view.system_path()), ("Dependent", view.service_path()))]
        }
        HOSTED_POOL => {
            let hosted = view.pools().iter().map(|pool| {
                let part = ("PartComponent", pool_path(&pool.id));
                link(("GroupComponent", view.system_path()), part)
            });
            hosted.collect()
        }
        SYSTEM_DEVICE => {
            let disks = state().disks.iter().map(|disk| view.volume_path(disk.id));
            let targets = state().targets.iter().map(|target| view.controller_path(&target.name));
            let device = |path: ObjectPath| {
                link(("GroupComponent", view.system_path()), ("PartComponent", path))
            };
            disks.chain(targets).map(device).collect()
        }
        ALLOCATED => {
            let allocated = |disk: &Disk| {
                let pool = ("Antecedent", pool_path(&disk.pool));
                let both = link(pool, ("Dependent", view.volume_path(disk.id)));
                both.with_some("SpaceConsumed", space_consumed(disk))
            };
            state().disks.iter().map(allocated).collect()
        }
        CAPABLE => {
            let pools = view.pools().iter().map(|pool| pool_path(&pool.id));
            let capable = std::iter::once(view.service_path())
                .chain(pools)
                .map(|path| link(("ManagedElement", path), ("Capabilities", capabilities_path())));
            capable.collect()
        }
        FOR_UNIT => {
            let units = state().mappings.iter().map(|mapping| {
                let controller = ("Antecedent", view.controller_path(&mapping.target));
                link(controller, ("Dependent", view.volume_path(mapping.disk)))
                    .with("DeviceNumber", format!("{:X}", mapping.lun))
                    // Read and write.
                    .with("DeviceAccess", 2_u16)
            });
            units.collect()
        }
        _ => Vec::new(),
    }
}

/// What the file takes up, which is less than its size for a thin disk.
fn space_consumed(disk: &Disk) -> Option<u64> {
    std::fs::metadata(&disk.path).ok().map(|file| file.blocks().saturating_mul(512))
}

/// Only elements that exist: clients follow the references.
fn affected(view: &View<'_>, job: &Job) -> Vec<Instance> {
    let state = view.snapshot();
    let one = |affected: &AffectedElement| {
        let path = match &affected.element {
            Element::Disk(id) => view.has_disk(*id).then(|| view.volume_path(*id)),
            Element::Pool(id) => {
                view.pools().iter().any(|pool| pool.id == *id).then(|| pool_path(id))
            }
            Element::Target(name) => {
                let exists = state.targets.iter().any(|target| target.name == *name);
                exists.then(|| view.controller_path(name))
            }
            Element::Job(id) => {
                state.jobs.iter().any(|other| other.id == *id).then(|| job_path(id))
            }
        };
        let other = match (affected.effect, &affected.element) {
            (ElementEffect::Other, Element::Pool(_)) => "Capacity",
            (ElementEffect::Other, _) => "Expand",
            _ => "",
        };
        Some(
            Instance::new(AFFECTED)
                .with("AffectedElement", path?)
                .with("AffectingElement", job_path(&job.id))
                .with("ElementEffects", Value::numbers(&[affected.effect as u16]))
                .with("OtherElementEffectsDescriptions", Value::texts([other])),
        )
    };
    job.affected.iter().filter_map(one).collect()
}

/// Which associations, and which of their ends.
#[derive(Debug, Default)]
pub(crate) struct Filter<'a> {
    /// Class of the association.
    pub(crate) association: Option<&'a str>,
    /// Class of the other end.
    pub(crate) result: Option<&'a str>,
    /// The property that refers to the element itself.
    pub(crate) role: Option<&'a str>,
    /// The property that refers to the other end.
    pub(crate) result_role: Option<&'a str>,
}

/// `References`: the associations that refer to an element.
pub(crate) fn references(
    view: &View<'_>,
    space: Space,
    element: &ObjectPath,
    filter: &Filter<'_>,
) -> Vec<Instance> {
    let mut found = Vec::new();
    for class in links(view, space, filter) {
        let role_fits = |instance: &Instance| {
            instance
                .properties
                .iter()
                .any(|(name, value)| refers(name, value, element, filter.role))
        };
        found.extend(instances(view, class).into_iter().filter(role_fits));
    }
    found
}

/// `Associators`: the paths of an element's neighbours, each once.
pub(crate) fn neighbours(
    view: &View<'_>,
    space: Space,
    element: &ObjectPath,
    filter: &Filter<'_>,
) -> Vec<ObjectPath> {
    let mut found: Vec<ObjectPath> = Vec::new();
    let mut seen = HashSet::new();
    for link in references(view, space, element, filter) {
        for (name, value) in &link.properties {
            let Some(path) = value.as_reference() else { continue };
            // The other end is one that is left when the element has taken its own.
            let own = link
                .properties
                .iter()
                .any(|(other, value)| other != name && refers(other, value, element, filter.role));
            let role_fits = filter.result_role.is_none_or(|role| role.eq_ignore_ascii_case(name));
            let class_fits = filter.result.is_none_or(|class| view.schema.is_a(&path.class, class));
            if own && role_fits && class_fits && seen.insert(path.to_uri()) {
                found.push(path.clone());
            }
        }
    }
    found
}

fn refers(name: &str, value: &Value, element: &ObjectPath, role: Option<&str>) -> bool {
    role.is_none_or(|role| role.eq_ignore_ascii_case(name))
        && value.as_reference().is_some_and(|path| path.same_as(element))
}

fn links(view: &View<'_>, space: Space, filter: &Filter<'_>) -> Vec<&'static str> {
    if space != Space::Storage {
        return Vec::new();
    }
    let wanted = |class: &&&str| {
        filter.association.is_none_or(|association| view.schema.is_a(class, association))
    };
    CLASSES.iter().filter(wanted).copied().collect()
}
