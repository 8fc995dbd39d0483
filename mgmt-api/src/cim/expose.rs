//! Methods that expose and hide disks, and that make initiators known.

use job_engine::catalogue::{check_iscsi_name, default_target_name};
use job_engine::{
    AccessEntry, Cause, DiskId, Expose, ExposeTo, ExposeUnit, Exposing, Hide, RequestError,
    SnapshotId, Target,
};

use super::fault::Fault;
use super::instances::{CONTROLLER, View};
use super::masking::{self, HARDWARE};
use super::methods::{
    COMPLETED, FAILED, INVALID_PARAMETER, Inputs, NOT_SUPPORTED, Outcome, Volume, started,
};
use super::operations::Work;
use super::path::ObjectPath;
use super::ports::target_of_port;
use super::value::Value;
use super::views::{self, Controller};

/// Initiators that clients may make known.
const MAX_KNOWN: usize = 4096;

/// What `ExposePaths` and `HidePaths` return, beside what all methods do.
const INVALID_UNIT: u32 = 4097;
const INVALID_INITIATOR: u32 = 4098;
const INVALID_PORT: u32 = 4099;
const INVALID_PERMISSION: u32 = 4100;
const NOT_EXPOSED: u32 = 4100;
const ALREADY_EXPOSED: u32 = 4101;
const NUMBER_IN_USE: u32 = 4102;
const TOO_MANY: u32 = 4103;

/// A method that ends early returns this.
type Ended<T> = Result<T, Answer>;

/// Why a method ends early.
enum Answer {
    Returned(u32),
    Fault(Fault),
}

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn outcome(ended: Ended<Outcome>) -> Result<Outcome, Fault> {
    match ended {
        Ok(outcome) => Ok(outcome),
        Err(Answer::Returned(number)) => Ok(Outcome::of(number)),
        Err(Answer::Fault(fault)) => Err(fault),
    }
}

/// What both methods are given.
struct Paths {
    disks: Vec<DiskId>,
    /// A snapshot that the one name is of. The disks are those that stand for it.
    snapshot: Option<SnapshotId>,
    initiators: Vec<String>,
    /// Targets of the ports.
    ports: Vec<String>,
    controllers: Vec<Controller>,
}

/// The one target that is meant, and who is.
struct Meant {
    target: String,
    /// A controller names it.
    by_controller: bool,
    /// The controller is what this initiator alone sees.
    own: Option<String>,
}

impl Paths {
    fn new(work: &Work<'_>, inputs: &Inputs) -> Ended<Self> {
        let names = inputs.texts("LUNames");
        let snapshot = names.iter().find_map(|name| snapshot_named(&work.view, name));
        let disks = match snapshot {
            None => names
                .into_iter()
                .map(|name| disk_named(&work.view, name).ok_or(Answer::Returned(INVALID_UNIT)))
                .collect::<Ended<_>>()?,
            // Each has a job of its own, and there is one job in the answer.
            Some(_) if names.len() > 1 => return Err(Answer::Returned(NOT_SUPPORTED)),
            Some(snapshot) => work.stands_for(snapshot).into_iter().collect(),
        };
        let initiators = inputs.texts("InitiatorPortIDs").into_iter().map(|name| {
            // The name of a port begins with that of its initiator.
            let name = name.split(',').next().unwrap_or_default().trim().to_lowercase();
            let checked = check_iscsi_name(&name);
            checked.map(|()| name).map_err(|_| Answer::Returned(INVALID_INITIATOR))
        });
        let ports = inputs
            .texts("TargetPortIDs")
            .into_iter()
            .map(|name| target_of_port(&work.view, name).ok_or(Answer::Returned(INVALID_PORT)));
        let controllers = inputs.references("ProtocolControllers").into_iter();
        let controllers = controllers.map(|path| controller(work, path).map_err(Answer::Fault));
        Ok(Self {
            disks,
            snapshot,
            initiators: initiators.collect::<Ended<_>>()?,
            ports: ports.collect::<Ended<_>>()?,
            controllers: controllers.collect::<Ended<_>>()?,
        })
    }

    /// The one target that is meant, if one is. Each view is changed by a call of its own.
    fn meant(&self) -> Ended<Option<Meant>> {
        let all = self.controllers.iter().map(|controller| &controller.target);
        let mut all = all.chain(&self.ports);
        let Some(target) = all.next() else { return Ok(None) };
        let first = self.controllers.first();
        if all.any(|other| other != target)
            || self.controllers.iter().any(|other| Some(other) != first)
        {
            return Err(Answer::Returned(NOT_SUPPORTED));
        }
        let own = match first.and_then(|controller| controller.own.as_ref()) {
            Some(entry) => Some(named(entry).ok_or(Answer::Returned(NOT_SUPPORTED))?),
            None => None,
        };
        // It is a view of one initiator: another one has another.
        if own.is_some() && self.initiators.iter().any(|other| Some(other) != own.as_ref()) {
            return Err(Answer::Returned(NOT_SUPPORTED));
        }
        Ok(Some(Meant { target: target.clone(), by_controller: first.is_some(), own }))
    }
}

/// The snapshot of this name.
fn snapshot_named(view: &View<'_>, name: &str) -> Option<SnapshotId> {
    let id = uuid::Uuid::try_parse(name).ok()?;
    let mut snapshots = view.snapshot().snapshots.iter();
    snapshots.find(|snapshot| snapshot.id.uuid() == id).map(|snapshot| snapshot.id)
}

/// The initiator whom an entry concerns, if that is one by its name.
fn named(entry: &AccessEntry) -> Option<String> {
    let name = entry.initiator.as_ref().filter(|name| !name.contains('*'));
    name.filter(|_| entry.address.is_none()).cloned()
}

fn disk_named(view: &View<'_>, name: &str) -> Option<DiskId> {
    let disks = &view.snapshot().disks;
    let found = disks.iter().find(|disk| disk.naa.to_string().eq_ignore_ascii_case(name));
    found.map(|disk| disk.id)
}

/// That one alone.
fn only(entry: &AccessEntry) -> Option<Vec<String>> {
    named(entry).map(|name| vec![name])
}

/// What a controller is.
fn controller(work: &Work<'_>, path: &ObjectPath) -> Result<Controller, Fault> {
    let instance = work.existing(path)?;
    let id = instance.get("DeviceID").and_then(Value::as_text);
    let found = id.filter(|_| instance.class == CONTROLLER).map(|id| views::find(&work.view, id));
    found.flatten().ok_or_else(|| Fault::invalid_parameter("it is no CIM_SCSIProtocolController"))
}

/// The target that a controller is.
pub(crate) fn target(work: &Work<'_>, path: &ObjectPath) -> Result<String, Fault> {
    let Controller { target, own } = controller(work, path)?;
    let all = own.is_none().then_some(target);
    all.ok_or_else(|| Fault::invalid_parameter("it is a view of some initiators, and no target"))
}

/// A logical unit number, in hexadecimal digits.
fn number(text: &str) -> Option<u16> {
    let digits = text.trim();
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { u16::from_str_radix(digits, 16).ok() } else { None }
}

/// The code that says why.
#[allow(clippy::wildcard_enum_match_arm, reason = "every other cause is a fault")]
fn refused(error: RequestError) -> Answer {
    let code = match error.cause() {
        Cause::NameInUse { what, .. } if what == "LUN" || what == "mapping" => NUMBER_IN_USE,
        Cause::BadValue { property, .. } if property.starts_with("initiator") => INVALID_INITIATOR,
        Cause::BadValue { property, .. } if property.starts_with("LUN") => INVALID_PARAMETER,
        Cause::LimitReached { .. } => TOO_MANY,
        _ => return Answer::Fault(error.into()),
    };
    Answer::Returned(code)
}

fn missing(error: RequestError) -> Answer {
    if matches!(error.cause(), Cause::NotFound { .. }) {
        return Answer::Returned(NOT_EXPOSED);
    }
    Answer::Fault(error.into())
}

/// A name for a target that has none yet.
pub(crate) fn new_name(kind: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    default_target_name(&format!("{kind}-{id}"))
}

impl Work<'_> {
    /// `ExposePaths`. Without a controller and without ports a view, that is a target, is made. A
    /// client that names ports and no controller means the initiators that it names alone.
    pub(crate) fn expose_paths(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        outcome(self.try_expose(inputs))
    }

    fn try_expose(&self, inputs: &Inputs) -> Ended<Outcome> {
        let paths = Paths::new(self, inputs)?;
        let none = paths.disks.is_empty() && paths.snapshot.is_none();
        if none && paths.initiators.is_empty() {
            return Err(Answer::Returned(INVALID_PARAMETER));
        }
        let made = || Meant { target: new_name("view"), by_controller: true, own: None };
        let meant = paths.meant()?;
        let create = meant.is_none().then(String::new);
        let Meant { target, by_controller, own } = meant.unwrap_or_else(made);
        let to_these = !by_controller || own.is_some();
        let mut initiators = paths.initiators.clone();
        if initiators.is_empty() {
            initiators.extend(own);
        }
        if to_these && initiators.is_empty() {
            // Which of the initiators of the target?
            return Err(Answer::Returned(INVALID_INITIATOR));
        }
        let to = if to_these { ExposeTo::These } else { ExposeTo::Everybody };
        let (units, snapshot) = match (paths.snapshot, paths.disks.as_slice()) {
            (Some(snapshot), []) => (units(inputs, &[DiskId::generate()])?, Some(snapshot)),
            // It is exposed to others already.
            (Some(_), [disk, ..]) => (units(inputs, &[*disk])?, None),
            (None, disks) => (units(inputs, disks)?, None),
        };
        if let Some(snapshot) = snapshot {
            let request = Expose { target, create, units: Vec::new(), initiators, to };
            return self.expose_snapshot(snapshot, request, units.first());
        }
        let before = self.view.snapshot().targets.iter().find(|own| own.name == target);
        let mapped = |disk: &DiskId| {
            let mappings = &self.view.snapshot().mappings;
            mappings.iter().any(|mapping| mapping.target == target && mapping.disk == *disk)
        };
        let all_mapped = paths.disks.iter().all(mapped);
        let request = Expose { target, create, units, initiators: initiators.clone(), to };
        let after = self.engine.expose(request).map_err(refused)?;
        if all_mapped && before == Some(&after) {
            return Err(Answer::Returned(ALREADY_EXPOSED));
        }
        let theirs = if to_these { initiators } else { Vec::new() };
        Ok(Outcome::of(COMPLETED).with("ProtocolControllers", self.controllers(&after, &theirs)))
    }

    /// A job makes a disk with the data of the snapshot, which stays what it is, and exposes that.
    fn expose_snapshot(
        &self,
        snapshot: SnapshotId,
        to: Expose,
        unit: Option<&ExposeUnit>,
    ) -> Ended<Outcome> {
        let mut snapshots = self.view.snapshot().snapshots.iter();
        let of = snapshots.find(|it| it.id == snapshot).and_then(|it| self.engine.disk(&it.disk));
        let name = of.map_or_else(|| "snapshot".to_owned(), |disk| disk.name.clone());
        let name = format!("{name}-{}", uuid::Uuid::new_v4().simple());
        let read_only = unit.is_some_and(|unit| unit.read_only);
        let kind = Exposing { read_only, linked: false };
        let to = (to, unit.and_then(|unit| unit.lun));
        let id = self.engine.expose_snapshot_to(snapshot, name, kind, to, self.submission());
        Ok(started(&id.map_err(refused)?))
    }

    /// The views of these initiators; without any, that of all others.
    fn controllers(&self, target: &Target, initiators: &[String]) -> Value {
        let entry = |name: &String| {
            let mut entries = target.access.iter().flatten();
            let entry = entries.find(|entry| named(entry).as_ref() == Some(name));
            views::path_for(&self.view, &target.name, entry)
        };
        let mut paths: Vec<ObjectPath> = Vec::new();
        for path in initiators.iter().map(entry) {
            if !paths.iter().any(|known| known.same_as(&path)) {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            paths.push(self.view.controller_path(&target.name));
        }
        Value::Array(paths.into_iter().map(Value::Reference).collect())
    }

    /// What initiators see of a target now.
    fn controllers_now(&self, name: &str, initiators: &[String]) -> Value {
        let now = self.engine.snapshot_without_jobs();
        match now.targets.iter().find(|target| target.name == name) {
            Some(target) => self.controllers(target, initiators),
            None => Value::Array(vec![Value::Reference(self.view.controller_path(name))]),
        }
    }

    /// `HidePaths`
    pub(crate) fn hide_paths(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        outcome(self.try_hide(inputs))
    }

    fn try_hide(&self, inputs: &Inputs) -> Ended<Outcome> {
        let paths = Paths::new(self, inputs)?;
        let meant = paths.meant()?.ok_or(Answer::Returned(INVALID_PARAMETER))?;
        let Paths { mut disks, mut initiators, snapshot, .. } = paths;
        let Meant { target, own, .. } = meant;
        if snapshot.is_some() {
            let mappings = &self.view.snapshot().mappings;
            disks.retain(|disk| mappings.iter().any(|it| it.target == target && it.disk == *disk));
            if disks.is_empty() {
                return Err(Answer::Returned(NOT_EXPOSED));
            }
        }
        if disks.is_empty() && initiators.is_empty() {
            return Err(Answer::Returned(INVALID_PARAMETER));
        }
        let theirs: Vec<String> = own.into_iter().collect();
        if initiators.is_empty() {
            initiators.clone_from(&theirs);
        }
        let (name, hidden) = (target.clone(), disks.clone());
        let request = Hide { target: name, disks, initiators, remove: false };
        self.engine.hide(request).map_err(missing)?;
        let controllers = self.controllers_now(&target, &theirs);
        let jobs = self.engine.delete_unseen(&hidden, &self.submission());
        let outcome = jobs.last().map_or_else(|| Outcome::of(COMPLETED), started);
        Ok(outcome.with("ProtocolControllers", controllers))
    }

    /// `DeleteProtocolController`: the disks stay, but for those that stand for snapshots and that
    /// nobody sees any more.
    pub(crate) fn delete_controller(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        let flag = |name| inputs.get(name).and_then(Value::as_bool).unwrap_or(false);
        if flag("DeleteUnits") || flag("DeleteChildrenProtocolControllers") {
            return Ok(Outcome::of(NOT_SUPPORTED));
        }
        let Controller { target, own } =
            controller(self, inputs.required_reference("ProtocolController")?)?;
        let request = match own.as_ref().map(|entry| (entry, named(entry))) {
            None => Hide { target, remove: true, ..Hide::default() },
            Some((_, None)) => return Ok(Outcome::of(NOT_SUPPORTED)),
            Some((entry, Some(initiator))) => {
                let shown = |lun| entry.luns.iter().flatten().any(|view| view.lun == lun);
                let mappings = self.view.snapshot().mappings.iter();
                let own = mappings.filter(|it| it.target == target && shown(it.lun));
                let disks = own.map(|mapping| mapping.disk).collect();
                Hide { target, disks, initiators: vec![initiator], remove: false }
            }
        };
        let before = self.engine.mappings();
        let name = request.target.clone();
        self.engine.hide(request)?;
        let of_target = before.iter().filter(|mapping| mapping.target == name);
        let disks: Vec<DiskId> = of_target.map(|mapping| mapping.disk).collect();
        // There is no job in the answer, whatever the method starts.
        self.engine.delete_unseen(&disks, &self.submission());
        Ok(Outcome::of(COMPLETED))
    }

    /// `AttachDevice`: everybody whose view it is sees the disk.
    pub(crate) fn attach_device(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const INVALID_DEVICE: u32 = 4096;
        const CONFLICT: u32 = 4097;
        let Controller { target, own } =
            controller(self, inputs.required_reference("ProtocolController")?)?;
        let Some(theirs) = own.as_ref().map_or_else(|| Some(Vec::new()), only) else {
            return Ok(Outcome::of(NOT_SUPPORTED));
        };
        let Ok(disk) = self.disk(inputs.required_reference("Device")?) else {
            return Ok(Outcome::of(INVALID_DEVICE));
        };
        let lun = match inputs.get("DeviceNumber").and_then(Value::as_text) {
            None | Some("") => None,
            Some(text) => match number(text) {
                Some(lun) => Some(lun),
                None => return Ok(Outcome::of(INVALID_PARAMETER)),
            },
        };
        let units = vec![ExposeUnit { disk, lun, read_only: false }];
        let to = if own.is_some() { ExposeTo::These } else { ExposeTo::Everybody };
        let name = target.clone();
        let request = Expose { target: name, create: None, units, initiators: theirs, to };
        let after = match self.engine.expose(request).map_err(refused) {
            Ok(after) => after,
            Err(Answer::Returned(NUMBER_IN_USE)) => return Ok(Outcome::of(CONFLICT)),
            Err(Answer::Returned(_)) => return Ok(Outcome::of(INVALID_PARAMETER)),
            Err(Answer::Fault(fault)) => return Err(fault),
        };
        let mut mappings = self.engine.mappings().into_iter();
        let mapping = mappings.find(|it| it.target == target && it.disk == disk);
        let lun = mapping.map(|mapping| mapping.lun);
        let name = own.as_ref().and_then(named);
        let mut theirs = after.access.iter().flatten().filter(|it| named(it) == name);
        let seen = theirs.next().filter(|_| name.is_some()).and_then(|entry| {
            entry.luns.iter().flatten().find(|view| Some(view.lun) == lun).map(|view| view.seen)
        });
        let number = seen.or(lun).map(|lun| format!("{lun:X}"));
        Ok(Outcome::of(COMPLETED).with("DeviceNumber", number.unwrap_or_default()))
    }

    /// `DetachDevice`
    pub(crate) fn detach_device(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const NOT_ASSOCIATED: u32 = 4096;
        let Controller { target, own } =
            controller(self, inputs.required_reference("ProtocolController")?)?;
        let Some(initiators) = own.as_ref().map_or_else(|| Some(Vec::new()), only) else {
            return Ok(Outcome::of(NOT_SUPPORTED));
        };
        let disk = match self.volume(inputs.required_reference("Device")?) {
            Ok(Volume::Disk(disk)) => Some(disk),
            Ok(Volume::Snapshot(snapshot)) => self.stands_for(snapshot),
            Err(_) => None,
        };
        let Some(disk) = disk else { return Ok(Outcome::of(NOT_ASSOCIATED)) };
        match self.engine.hide(Hide { target, disks: vec![disk], initiators, remove: false }) {
            Ok(()) => {
                self.engine.delete_unseen(&[disk], &self.submission());
                Ok(Outcome::of(COMPLETED))
            }
            Err(error) if matches!(error.cause(), Cause::NotFound { .. }) => {
                Ok(Outcome::of(NOT_ASSOCIATED))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The disk that initiators see where a snapshot is exposed.
    fn stands_for(&self, snapshot: SnapshotId) -> Option<DiskId> {
        let mut all = self.engine.exposed_snapshots().into_iter();
        all.find(|(_, of)| *of == snapshot).map(|(disk, _)| disk)
    }

    /// `CreateStorageHardwareID`
    pub(crate) fn create_hardware_id(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const EXISTS: u32 = 4096;
        const UNSUPPORTED_KIND: u32 = 4097;
        const ISCSI_NAME: u64 = 5;
        if inputs.required_number("IDType")? != ISCSI_NAME {
            return Ok(Outcome::of(UNSUPPORTED_KIND));
        }
        let name = inputs.required_text("StorageID")?.to_lowercase();
        if check_iscsi_name(&name).is_err() || inputs.get("OtherIDType").is_some() {
            return Ok(Outcome::of(INVALID_PARAMETER));
        }
        if inputs.get("Setting").is_some() {
            return Ok(Outcome::of(NOT_SUPPORTED));
        }
        let known = masking::known(&self.view);
        let path = masking::hardware_path(&name);
        if known.contains_key(&name) {
            return Ok(Outcome::of(EXISTS).with("HardwareID", path));
        }
        if known.len() >= MAX_KNOWN {
            return Ok(Outcome::of(FAILED));
        }
        let title = inputs.get("ElementName").and_then(Value::as_text).unwrap_or(&name);
        self.engine.save_record(masking::record(&name), Some(title.to_owned()))?;
        Ok(Outcome::of(COMPLETED).with("HardwareID", path))
    }

    /// `DeleteStorageHardwareID`. One that may use a target is hidden from it before.
    pub(crate) fn delete_hardware_id(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const UNKNOWN: u32 = 4096;
        let path = inputs.required_reference("HardwareID")?;
        let found = self.view.find(self.space, path).filter(|found| found.class == HARDWARE);
        let name = found.as_ref().and_then(|it| it.get("StorageID")).and_then(Value::as_text);
        let Some(name) = name else { return Ok(Outcome::of(UNKNOWN)) };
        if masking::is_privileged(&self.view, name) {
            return Ok(Outcome::of(FAILED));
        }
        self.engine.save_record(masking::record(name), None)?;
        Ok(Outcome::of(COMPLETED))
    }
}

/// The disks with their numbers and accesses, which stand in lists beside them.
fn units(inputs: &Inputs, disks: &[DiskId]) -> Ended<Vec<ExposeUnit>> {
    const READ_WRITE: u64 = 2;
    const READ_ONLY: u64 = 3;
    let numbers = inputs.texts("DeviceNumbers");
    let accesses = inputs.numbers("DeviceAccesses");
    let fits = |length: usize| length == 0 || length == disks.len();
    if !fits(numbers.len()) || !fits(accesses.len()) {
        return Err(Answer::Returned(INVALID_PARAMETER));
    }
    let unit = |(index, disk): (usize, &DiskId)| {
        let lun = match numbers.get(index) {
            None => None,
            Some(text) => Some(number(text).ok_or(Answer::Returned(INVALID_PARAMETER))?),
        };
        let read_only = match accesses.get(index) {
            None | Some(&READ_WRITE) => false,
            Some(&READ_ONLY) => true,
            Some(_) => return Err(Answer::Returned(INVALID_PERMISSION)),
        };
        Ok(ExposeUnit { disk: *disk, lun, read_only })
    };
    disks.iter().enumerate().map(unit).collect()
}
