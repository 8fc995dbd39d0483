//! Associations as instances, and the way from an element to its neighbours.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use job_engine::{
    AffectedElement, Disk, DiskSnapshot, Element, ElementEffect, Job, JobKind, JobView, Pool,
    Purpose,
};

use super::bulk::{BULK_CAPABILITIES, BULK_CAPABILITIES_ID, BULK_SERVICE};
use super::indications::SUBSCRIPTION;
use super::instances::{
    JOB, PARTS, POOL, Part, SERVICE, Space, View, by_id, capabilities_path, job_path, link,
    pool_path, primordial_id,
};
use super::masking::{
    HARDWARE_SERVICE, MASKING_CAPABILITIES, MASKING_CAPABILITIES_ID, MASKING_SERVICE,
};
use super::path::ObjectPath;
use super::ports::{
    ISCSI_CAPABILITIES, ISCSI_CAPABILITIES_ID, ISCSI_SERVICE, ISCSI_SERVICE_CAPABILITIES,
    ISCSI_SERVICE_CAPABILITIES_ID,
};
use super::replicas::{
    self, REPLICATION_CAPABILITIES, REPLICATION_CAPABILITIES_ID, REPLICATION_SERVICE,
};
use super::settings::{
    REPLICA_CAPABILITIES, REPLICA_CAPABILITIES_ID, STORAGE_CAPABILITIES, STORAGE_CAPABILITIES_ID,
};
use super::value::{Instance, Value};
use super::views::{self, FOR_UNIT};

const AFFECTED: &str = "MSISCSITARGET_AffectedJobElement";
const OWNING: &str = "MSISCSITARGET_OwningJobElement";
const HOSTED_SERVICE: &str = "MSISCSITARGET_HostedService";
const HOSTED_POOL: &str = "MSISCSITARGET_HostedStoragePool";
const SYSTEM_DEVICE: &str = "MSISCSITARGET_SystemDevice";
const ALLOCATED: &str = "MSISCSITARGET_AllocatedFromStoragePool";

const CAPABLE: &str = "MSISCSITARGET_ElementCapabilities";

/// The associations between what is there always.
pub(crate) const PART: Part = Part {
    elements: &[],
    links: &[
        (AFFECTED, Space::Storage),
        (OWNING, Space::Storage),
        (HOSTED_SERVICE, Space::Storage),
        (HOSTED_POOL, Space::Storage),
        (SYSTEM_DEVICE, Space::Storage),
        (ALLOCATED, Space::Storage),
        (FOR_UNIT, Space::Storage),
        (CAPABLE, Space::Storage),
    ],
    instances,
};

/// All services.
const SERVICES: [&str; 6] =
    [SERVICE, MASKING_SERVICE, HARDWARE_SERVICE, ISCSI_SERVICE, REPLICATION_SERVICE, BULK_SERVICE];

fn instances(view: &View<'_>, class: &'static str) -> Vec<Instance> {
    let link =
        |from: (&'static str, ObjectPath), to: (&'static str, ObjectPath)| link(class, from, to);
    let state = || view.snapshot();
    match class {
        AFFECTED => view.jobs().iter().flat_map(|job| affected(view, job)).collect(),
        OWNING => view.jobs().iter().map(|job| owned(view, job)).collect(),
        HOSTED_SERVICE => {
            let hosted = SERVICES.iter().map(|service| {
                let service = ("Dependent", view.service_path(service));
                link(("Antecedent", view.system_path()), service)
            });
            hosted.collect()
        }
        HOSTED_POOL => {
            let pools = view.pools().iter().map(|pool| pool_path(&pool.id));
            let hosted = std::iter::once(by_id(POOL, &primordial_id()))
                .chain(pools)
                .map(|pool| link(("GroupComponent", view.system_path()), ("PartComponent", pool)));
            hosted.collect()
        }
        SYSTEM_DEVICE => {
            let disks = state().disks.iter().map(|disk| view.volume_path(disk.id));
            let snapshots = state().snapshots.iter().map(|it| view.snapshot_path(it.id));
            let targets = state().targets.iter().flat_map(|target| views::paths(view, target));
            let device = |path: ObjectPath| {
                link(("GroupComponent", view.system_path()), ("PartComponent", path))
            };
            disks.chain(snapshots).chain(targets).map(device).collect()
        }
        ALLOCATED => allocated(view),
        CAPABLE => capable(view),
        FOR_UNIT => views::units(view),
        _ => Vec::new(),
    }
}

/// Pools, and what takes its space from them.
fn allocated(view: &View<'_>) -> Vec<Instance> {
    let of_disk = |disk: &Disk| {
        let pool = ("Antecedent", pool_path(&disk.pool));
        let both = link(ALLOCATED, pool, ("Dependent", view.volume_path(disk.id)));
        both.with_some("SpaceConsumed", space_consumed(&disk.path))
    };
    let of_snapshot = |snapshot: &DiskSnapshot| {
        let disk = view.snapshot().disks.iter().find(|disk| disk.id == snapshot.disk)?;
        let pool = replicas::pool_of(view, snapshot, disk);
        let pool = ("Antecedent", pool_path(&pool));
        let both = link(ALLOCATED, pool, ("Dependent", view.snapshot_path(snapshot.id)));
        Some(both.with_some("SpaceConsumed", space_consumed(&snapshot.path)))
    };
    let of_pool = |pool: &Pool| {
        let from = ("Antecedent", by_id(POOL, &primordial_id()));
        link(ALLOCATED, from, ("Dependent", pool_path(&pool.id)))
            .with("SpaceConsumed", pool.total_bytes)
    };
    let disks = view.snapshot().disks.iter().map(of_disk);
    let snapshots = view.snapshot().snapshots.iter().filter_map(of_snapshot);
    disks.chain(snapshots).chain(view.pools().iter().map(of_pool)).collect()
}

/// What everything can.
fn capable(view: &View<'_>) -> Vec<Instance> {
    let pools = view.pools().iter().map(|pool| pool_path(&pool.id));
    let storage = std::iter::once(view.service_path(SERVICE))
        .chain(pools)
        .map(|path| (path, capabilities_path()));
    let masking = || by_id(MASKING_CAPABILITIES, MASKING_CAPABILITIES_ID);
    let replication = by_id(REPLICATION_CAPABILITIES, REPLICATION_CAPABILITIES_ID);
    let iscsi = by_id(ISCSI_SERVICE_CAPABILITIES, ISCSI_SERVICE_CAPABILITIES_ID);
    let volumes = || by_id(STORAGE_CAPABILITIES, STORAGE_CAPABILITIES_ID);
    let of_volumes = view.pools().iter().map(|pool| (pool_path(&pool.id), volumes()));
    let replicas = by_id(REPLICA_CAPABILITIES, REPLICA_CAPABILITIES_ID);
    let others = [
        (view.service_path(SERVICE), volumes()),
        (view.service_path(SERVICE), replicas),
        (view.service_path(MASKING_SERVICE), masking()),
        (view.system_path(), masking()),
        (view.service_path(REPLICATION_SERVICE), replication),
        (view.service_path(ISCSI_SERVICE), iscsi),
        (view.service_path(BULK_SERVICE), by_id(BULK_CAPABILITIES, BULK_CAPABILITIES_ID)),
    ];
    let targets = view.snapshot().targets.iter().flat_map(|target| views::paths(view, target));
    let targets = targets.map(|path| (path, by_id(ISCSI_CAPABILITIES, ISCSI_CAPABILITIES_ID)));
    let all = storage.chain(of_volumes).chain(others).chain(targets);
    all.map(|(path, its)| link(CAPABLE, ("ManagedElement", path), ("Capabilities", its))).collect()
}

/// What the file takes up, which is less than its size for a thin disk.
fn space_consumed(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|file| file.blocks().saturating_mul(512))
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
            Element::Job(id) => view.engine.job(id).is_some().then(|| job_path(id)),
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
    let snapshots = state.snapshots.iter().filter(|snapshot| snapshot.created_by == job.id);
    let made: Vec<Instance> = snapshots
        .map(|snapshot| {
            Instance::new(AFFECTED)
                .with("AffectedElement", view.snapshot_path(snapshot.id))
                .with("AffectingElement", job_path(&job.id))
                .with("ElementEffects", Value::numbers(&[ElementEffect::Create as u16]))
                .with("OtherElementEffectsDescriptions", Value::texts([""]))
        })
        .collect();
    if !made.is_empty() {
        return made;
    }
    let creates = |it: &AffectedElement| match &it.element {
        Element::Disk(id) => it.effect == ElementEffect::Create && view.has_disk(*id),
        Element::Pool(_) | Element::Target(_) | Element::Job(_) => false,
    };
    // Clients take the first volume for the new one: what it was made of is left out.
    let made = job.affected.iter().any(creates);
    let wanted = |it: &&AffectedElement| !made || creates(it) || !is_disk(it);
    job.affected.iter().filter(wanted).filter_map(one).collect()
}

fn is_disk(affected: &AffectedElement) -> bool {
    matches!(affected.element, Element::Disk(_))
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
    let job = job_of(view, element);
    for class in links(view, space, filter) {
        let role_fits = |instance: &Instance| {
            instance
                .properties
                .iter()
                .any(|(name, value)| refers(name, value, element, filter.role))
        };
        // Those who poll a job must not pay for all others.
        let all = match job.as_ref().map(|job| of_job(view, class, job)) {
            Some(Some(few)) => few,
            _ => view.instances(class),
        };
        found.extend(all.into_iter().filter(role_fits));
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

/// The job that an element is.
fn job_of(view: &View<'_>, element: &ObjectPath) -> Option<Job> {
    let id = element.text_key("InstanceID").filter(|_| view.schema.is_a(&element.class, JOB))?;
    view.engine.job(&id.parse().ok()?)
}

/// The associations of a class with a job, if they can be told without all others.
fn of_job(view: &View<'_>, class: &str, job: &Job) -> Option<Vec<Instance>> {
    match class {
        AFFECTED => {
            // Another one may be affected by this one, as well.
            let touches =
                |it: &&JobView| it.affected.iter().any(|own| own.element == Element::Job(job.id));
            let others = view.jobs().iter().filter(touches);
            let others = others.flat_map(|other| affected(view, other));
            Some(affected(view, job).into_iter().chain(others).collect())
        }
        OWNING => Some(vec![owned(view, job)]),
        _ => replicas::of_job(class, job),
    }
}

/// A job and the service that it is of.
fn owned(view: &View<'_>, job: &Job) -> Instance {
    let masks = matches!(job.kind, JobKind::Planned { purpose: Purpose::MapSnapshot, .. });
    let service = if replicas::is_replication(job) {
        REPLICATION_SERVICE
    } else if masks {
        MASKING_SERVICE
    } else {
        SERVICE
    };
    let owner = ("OwningElement", view.service_path(service));
    link(OWNING, owner, ("OwnedElement", job_path(&job.id)))
}

fn refers(name: &str, value: &Value, element: &ObjectPath, role: Option<&str>) -> bool {
    role.is_none_or(|role| role.eq_ignore_ascii_case(name))
        && value.as_reference().is_some_and(|path| path.same_as(element))
}

fn links(view: &View<'_>, space: Space, filter: &Filter<'_>) -> Vec<&'static str> {
    let wanted = |class: &&str| {
        filter.association.is_none_or(|association| view.schema.is_a(class, association))
    };
    // Made by clients, and no part of the model.
    let made = [(SUBSCRIPTION, Space::Interop)];
    let all = PARTS.iter().flat_map(|part| part.links).copied().chain(made);
    let own = all.filter(|(_, own)| *own == space);
    own.map(|(class, _)| class).filter(wanted).collect()
}
