//! Keeps the node as the catalogue has it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use disk_image::{DirectIo, Image, pool_space};
use job_engine::{
    ChangeEvent, ChangeKind, Disk, DiskId, Engine, ImageFormat, LiveImages, LunView, Mapping,
    PoolId, PoolLimits, Provisioning, Snapshot, Target,
};
use parking_lot::Mutex;
use scsi::{AccessMethods, Device, ProvisioningType, SoftThresholds};
use target_core::{
    AccessEntry, AuthPolicy, ChapPolicy, InitiatorPattern, IscsiName, LogicalUnit, LunMapping,
    Node, OperationControl, OperationError, TargetConfig, UnitConfig,
};
use tokio::runtime::Handle;

use super::Recorder;
use crate::access_states;
use crate::chap_accounts::ChapAccounts;
use crate::config::{PortalGroup, Redirects, Scsi};
use crate::watch;

/// For so long an unmapping waits for the commands that are under way. After that they still
/// cannot be forgotten: the image stays locked until they end.
const UNMAP_LIMIT: Duration = Duration::from_secs(30);

/// What the configuration says of targets.
pub(crate) struct Rules {
    pub(crate) chap: Arc<ChapAccounts>,
    pub(crate) redirects: Redirects,
    pub(crate) portal_groups: Vec<PortalGroup>,
    pub(crate) access_methods: AccessMethods,
    pub(crate) scsi: Scsi,
}

impl Rules {
    /// Tags of the groups through which a target is reached.
    fn portal_groups(&self, target: &str) -> Vec<u16> {
        let groups = self.portal_groups.iter().filter(|group| group.serves(target));
        groups.map(|group| group.tag).collect()
    }
}

/// Keeps the node as the catalogue has it.
pub(crate) struct Exposure {
    pub(crate) node: Arc<Node>,
    runtime: Handle,
    rules: Rules,
    pub(crate) recorder: Arc<Recorder>,
    disks: Mutex<Vec<Arc<Disk>>>,
    /// A disk that is several LUNs is one unit.
    units: Mutex<Vec<(String, Weak<LogicalUnit>)>>,
    /// Bytes of each pool, that its thresholds are parts of.
    totals: Mutex<BTreeMap<PoolId, u64>>,
    /// Whether images of a pool go past the page cache.
    direct_io: Mutex<BTreeMap<PoolId, DirectIo>>,
    /// Held while LUNs change.
    changing: Mutex<()>,
    /// Held while a unit gets its image or another one.
    pub(crate) opening: Mutex<()>,
}

impl std::fmt::Debug for Exposure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exposure").finish_non_exhaustive()
    }
}

impl Exposure {
    /// Exposes what is in the catalogue, from now on.
    pub(crate) fn start(
        node: Arc<Node>,
        engine: &Arc<Engine>,
        runtime: Handle,
        rules: Rules,
        recorder: Arc<Recorder>,
    ) -> anyhow::Result<Arc<Self>> {
        if rules.access_methods.any() {
            let stored = engine.access_states().into_iter().map(access_states::restored);
            node.keep_access_states(recorder.clone(), stored);
        }
        let exposure = Arc::new(Self {
            node,
            runtime,
            rules,
            recorder,
            disks: Mutex::default(),
            units: Mutex::default(),
            totals: Mutex::default(),
            direct_io: Mutex::default(),
            changing: Mutex::default(),
            opening: Mutex::default(),
        });
        // Jobs that an earlier run had begun go on already: what they change waits for the snapshot.
        let early = Arc::new(Mutex::new(Some(Vec::new())));
        let (subscriber, held) = (exposure.clone(), early.clone());
        let snapshot = engine.subscribe(Box::new(move |event| {
            if let Some(held) = held.lock().as_mut() {
                held.push(event.clone());
                return;
            }
            subscriber.changed(event);
        }))?;
        engine.set_live_images(exposure.clone());
        exposure.catch_up(snapshot);
        exposure.follow(&early);
        watch::start(&exposure)?;
        engine.set_operation_runner(exposure.clone());
        Ok(exposure)
    }

    /// For the end, when nobody uses them any more: any program may open the files after this.
    pub(crate) fn close_images(&self) {
        let units: Vec<_> = self.units.lock().iter().filter_map(|(_, it)| it.upgrade()).collect();
        for image in units.iter().filter_map(|unit| unit.image()) {
            if let Err(error) = image.close() {
                let image = image.path();
                tracing::warn!(image = %image.display(), %error, "the next opener has to replay what was put off");
            }
        }
    }

    fn catch_up(&self, snapshot: Snapshot) {
        self.disks.lock().extend(snapshot.disks.into_iter().map(Arc::new));
        for target in &snapshot.targets {
            self.add_target(target);
        }
        for mapping in &snapshot.mappings {
            self.add_mapping(mapping);
        }
    }

    /// Makes the changes that came meanwhile; those behind them come by themselves.
    fn follow(&self, early: &Mutex<Option<Vec<ChangeEvent>>>) {
        loop {
            let events = {
                let mut held = early.lock();
                match held.as_mut().map(std::mem::take) {
                    Some(events) if !events.is_empty() => events,
                    Some(_) | None => {
                        *held = None;
                        return;
                    }
                }
            };
            for event in &events {
                self.changed(event);
            }
        }
    }

    fn changed(&self, event: &ChangeEvent) {
        let _changing = self.changing.lock();
        match &event.change {
            ChangeKind::DiskCreated(disk) => self.disks.lock().push(disk.clone()),
            ChangeKind::DiskChanged(disk) => self.change_disk(disk),
            ChangeKind::ConditionChanged(stored) => {
                self.set_condition(&stored.disk, Some(&stored.condition));
            }
            ChangeKind::ConditionOver(disk) => self.set_condition(disk, None),
            ChangeKind::DiskDeleted(disk) => self.disks.lock().retain(|it| it.id != disk.id),
            ChangeKind::TargetCreated(target) => self.add_target(target),
            ChangeKind::TargetChanged(target) => {
                if let Err(error) = self.node.set_target_alias(&target.name, &target.alias) {
                    tracing::error!(%error, "the data path disagrees with the catalogue");
                }
                let change = self.node.set_access(&target.name, access_of(target));
                self.finish(&target.name, change);
            }
            ChangeKind::TargetDeleted(target) => {
                let removal = self.node.remove_target(&target.name);
                self.finish(&target.name, removal);
            }
            ChangeKind::MappingCreated(mapping) => self.add_mapping(mapping),
            ChangeKind::MappingDeleted(mapping) => {
                let removal = self.node.remove_unit(&mapping.target, mapping.lun);
                self.finish(&mapping.target, removal);
            }
            ChangeKind::PoolChanged(pool) => {
                if let Some(known) = self.direct_io.lock().get(&pool.id) {
                    known.set(pool.limits.direct_io);
                }
                // One that is being made is in nobody's sight before it has looked.
                for (_, unit) in self.live_units().iter().filter(|(it, _)| it.pool == pool.id) {
                    self.tell_whether_writes_sleep(&pool.id, unit);
                }
            }
            ChangeKind::PoolDeleted(pool) => {
                self.direct_io.lock().remove(&pool.id);
            }
            ChangeKind::PoolCreated(_)
            | ChangeKind::PoolHealthChanged { .. }
            | ChangeKind::SnapshotCreated(_)
            | ChangeKind::SnapshotDeleted(_)
            | ChangeKind::JobCreated(_)
            | ChangeKind::JobChanged { .. }
            | ChangeKind::JobDeleted(_) => {}
        }
    }

    /// Another unit in the place of one whose file was deleted, with the file that has its name now.
    /// What was on the way to the old file fails with its LUNs; fences hold on.
    pub(crate) fn replace(&self, disk: &Disk, old: &Arc<LogicalUnit>) {
        let _changing = self.changing.lock();
        let places = self.node.luns_of(old);
        for (target, lun) in &places {
            self.finish(target, self.node.remove_unit(target, *lun));
        }
        self.units.lock().retain(|(name, _)| name != old.name());
        let current = self.disks.lock().iter().find(|it| it.id == disk.id).cloned();
        let Some(disk) = current else { return };
        let unit = self.unit(&disk);
        unit.take_over(old);
        for (target, lun) in &places {
            if let Err(error) = self.node.add_unit(target, *lun, unit.clone()) {
                tracing::error!(%error, "the disk is not a LUN any more until it is mapped again");
            }
        }
        self.node.medium_changed(&unit);
    }

    /// A disk as it is now.
    pub(crate) fn disk(&self, id: DiskId) -> Option<Arc<Disk>> {
        self.disks.lock().iter().find(|disk| disk.id == id).cloned()
    }

    /// The unit of a disk, if it is open.
    pub(super) fn open_unit(&self, disk: DiskId) -> Option<Arc<LogicalUnit>> {
        self.live_unit(&disk.to_string())
    }

    fn live_unit(&self, name: &str) -> Option<Arc<LogicalUnit>> {
        let units = self.units.lock();
        units.iter().find(|(other, _)| *other == name).and_then(|(_, unit)| unit.upgrade())
    }

    /// The disks that are units, and the units.
    pub(crate) fn live_units(&self) -> Vec<(Arc<Disk>, Arc<LogicalUnit>)> {
        let units: Vec<_> =
            self.units.lock().iter().filter_map(|(_, unit)| unit.upgrade()).collect();
        let disks = self.disks.lock().clone();
        let by_name: HashMap<String, &Arc<Disk>> =
            disks.iter().map(|disk| (disk.id.to_string(), disk)).collect();
        let disk_of = |unit: &LogicalUnit| by_name.get(unit.name()).copied().cloned();
        units.into_iter().filter_map(|unit| Some((disk_of(&unit)?, unit))).collect()
    }

    fn limits(&self, pool: &PoolId) -> PoolLimits {
        let pools = self.recorder.engine().map(|engine| engine.pool_settings()).unwrap_or_default();
        let limits = pools.into_iter().find(|(it, _)| it.id == *pool).map(|(it, _)| it.limits);
        limits.unwrap_or_default()
    }

    /// The switch of a pool that says whether its images go past the page cache.
    pub(crate) fn direct_io(&self, pool: &PoolId) -> DirectIo {
        let mut known = self.direct_io.lock();
        let new = || DirectIo::new(self.limits(pool).direct_io);
        known.entry(pool.clone()).or_insert_with(new).clone()
    }

    /// Has a unit know it of the pool that its disk is in.
    fn tell_whether_writes_sleep(&self, pool: &PoolId, unit: &LogicalUnit) {
        unit.set_writes_sleep(self.direct_io(pool).is_on());
    }

    /// Free bytes below which initiators are warned, in a pool of `total` bytes.
    fn thresholds(&self, pool: &PoolId, total: u64) -> Vec<u64> {
        self.soft_thresholds(pool, &self.limits(pool), total)
    }

    /// The same of what is known of a pool, from the highest to the lowest.
    pub(crate) fn soft_thresholds(
        &self,
        pool: &PoolId,
        limits: &PoolLimits,
        total: u64,
    ) -> Vec<u64> {
        // Some file systems (ZFS) are a little larger or smaller from moment to moment.
        let total = {
            let mut totals = self.totals.lock();
            let known = totals.entry(pool.clone()).or_insert(total);
            // One that is not there has the size that it had.
            if total > 0 && known.abs_diff(total) > *known / 32 {
                *known = total;
            }
            *known
        };
        let bytes = limits.soft_thresholds.iter().map(|threshold| threshold.bytes(total));
        let mut bytes: Vec<u64> = bytes.collect();
        bytes.sort_unstable_by(|a, b| b.cmp(a));
        bytes.dedup();
        bytes
    }

    /// The image of a disk that is open, if its file is not all that there is of it.
    pub(super) fn tables(&self, disk: DiskId) -> Option<Arc<dyn Image>> {
        let disks = self.disks.lock();
        let found = disks.iter().find(|it| it.id == disk && it.format != ImageFormat::Raw)?.id;
        drop(disks);
        self.open_unit(found)?.image().cloned()
    }

    /// A disk has become larger or smaller.
    fn change_disk(&self, disk: &Arc<Disk>) {
        if let Some(known) = self.disks.lock().iter_mut().find(|it| it.id == disk.id) {
            *known = disk.clone();
        }
        let Some(unit) = self.open_unit(disk.id) else { return };
        if unit.is_read_only() != disk.read_only {
            let change = async {
                self.node.set_read_only(&unit, disk.read_only).await;
                Ok(())
            };
            self.finish(&disk.name, change);
        }
        self.node.set_provisioning(&unit, provisioning(disk));
        // It may have come into another pool.
        self.tell_whether_writes_sleep(&disk.pool, &unit);
        // A smaller size was put in force before the catalogue had it.
        if let Err(error) = self.node.grow_unit(&unit, disk.size_bytes) {
            tracing::error!(disk = disk.name, %error, "the disk's new size is not there");
        }
    }

    /// A unit that is made later looks by itself.
    fn set_condition(&self, disk: &DiskId, condition: Option<&[u8]>) {
        if let Some(unit) = self.live_unit(&disk.to_string()) {
            unit.set_condition(condition);
        }
    }

    /// Waits until something is out of reach, on the engine's thread for subscribers.
    fn finish(
        &self,
        target: &str,
        removal: impl Future<Output = Result<(), target_core::NodeError>>,
    ) {
        let done =
            self.runtime.block_on(async { tokio::time::timeout(UNMAP_LIMIT, removal).await });
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the data path disagrees with the catalogue"),
            Err(_) => {
                tracing::error!(
                    name = target,
                    "commands are still under way in what was taken away"
                );
            }
        }
    }

    fn add_target(&self, target: &Target) {
        let added = IscsiName::new(&target.name).map_err(anyhow::Error::from).and_then(|name| {
            self.node.add_target(TargetConfig {
                name,
                alias: target.alias.clone(),
                // Nobody's, until the accounts are looked for.
                auth: AuthPolicy::Chap(ChapPolicy::default()),
                access: access_of(target),
                portal_groups: Some(self.rules.portal_groups(&target.name)),
            })?;
            self.rules.chap.protect(&target.name);
            let redirect = self.rules.redirects.get(&target.name).cloned();
            Ok(self.node.redirect_target(&target.name, redirect)?)
        });
        if let Err(error) = added {
            tracing::error!(name = target.name, %error, "the target cannot be served");
        }
    }

    fn add_mapping(&self, mapping: &Mapping) {
        let disk = self.disks.lock().iter().find(|disk| disk.id == mapping.disk).cloned();
        let Some(disk) = disk else {
            tracing::error!(disk = %mapping.disk, "a disk is mapped that is not in the catalogue");
            return;
        };
        let unit = self.unit(&disk);
        if let Err(error) = self.node.add_unit(&mapping.target, mapping.lun, unit) {
            tracing::error!(%error, "the data path disagrees with the catalogue");
        }
    }

    fn unit(&self, disk: &Disk) -> Arc<LogicalUnit> {
        let mut units = self.units.lock();
        units.retain(|(_, unit)| unit.strong_count() > 0);
        let name = disk.id.to_string();
        let there = units.iter().find(|(other, _)| *other == name);
        if let Some(unit) = there.and_then(|(_, unit)| unit.upgrade()) {
            return unit;
        }
        let image = watch::open(disk, self.direct_io(&disk.pool));
        if let Err(error) = &image {
            self.cannot_open(disk, error);
        }
        let total = disk.path.parent().map(pool_space).and_then(Result::ok);
        let thresholds = if disk.takes_pool_space() {
            self.thresholds(&disk.pool, total.map_or(0, |space| space.total))
        } else {
            Vec::new()
        };
        let unit = LogicalUnit::new(UnitConfig {
            name: name.clone(),
            device: Device {
                access_methods: self.rules.access_methods,
                soft_thresholds: SoftThresholds::new(&thresholds),
                ..self.rules.scsi.limit(device(disk))
            },
            image,
            reservations: self.recorder.reservations(&disk.id),
            store: self.recorder.clone(),
            mode_pages: self.recorder.mode_pages(&disk.id),
            mode_page_store: self.recorder.clone(),
            condition: self.recorder.condition(&disk.id),
            operations: self.recorder.clone(),
        });
        unit.set_read_only(disk.read_only);
        units.push((name, Arc::downgrade(&unit)));
        self.tell_whether_writes_sleep(&disk.pool, &unit);
        unit
    }
}

impl LiveImages for Exposure {
    fn image(&self, disk: &DiskId) -> Option<Arc<dyn Image>> {
        self.live_unit(&disk.to_string())?.image().cloned()
    }
}

impl job_engine::OperationRunner for Exposure {
    /// On the unit that serves the disk, which is made if nobody uses it now.
    fn run(
        &self,
        disk: &Disk,
        operation: &[u8],
        from: u64,
        control: &dyn job_engine::OperationControl,
    ) -> Result<(), job_engine::OperationError> {
        let unit = match self.open_unit(disk.id) {
            Some(unit) => unit,
            None if target_core::is_copy(operation) => {
                return Err(job_engine::OperationError::Lost);
            }
            None => self.unit(disk),
        };
        let done = target_core::run_operation(&unit, operation, from, &Control(control));
        done.map_err(|error| match error {
            OperationError::Stopped => job_engine::OperationError::Stopped,
            OperationError::Image(error) => job_engine::OperationError::Image(error),
            OperationError::Refused(reason) => {
                job_engine::OperationError::Refused(reason.to_owned())
            }
            OperationError::Cancelled(by) => job_engine::OperationError::Cancelled(by.to_owned()),
            OperationError::Lost => job_engine::OperationError::Lost,
        })
    }
}

struct Control<'a>(&'a dyn job_engine::OperationControl);

impl OperationControl for Control<'_> {
    fn progress(&self, done: u64, total: u64) -> Result<(), OperationError> {
        self.0.progress(done, total).map_err(|_| OperationError::Stopped)
    }

    fn reached(&self, position: u64) -> Result<(), OperationError> {
        self.0.reached(position).map_err(|_| OperationError::Stopped)
    }
}

/// Who may use a target, as the data path takes it.
fn access_of(target: &Target) -> Option<Vec<AccessEntry>> {
    let lun =
        |view: &LunView| LunMapping { seen: view.seen, lun: view.lun, read_only: view.read_only };
    let entry = |entry: &job_engine::AccessEntry| {
        let initiator = match entry.initiator.as_deref().map(InitiatorPattern::new).transpose() {
            Ok(initiator) => initiator,
            Err(error) => {
                // Whom it meant is not known, so it lets nobody in.
                tracing::error!(name = target.name, %error, "an access entry has no effect");
                return None;
            }
        };
        let luns = entry.luns.as_ref().map(|luns| luns.iter().map(lun).collect());
        let (address, read_only) = (entry.address, entry.read_only);
        Some(AccessEntry { initiator, address, luns, read_only })
    };
    target.access.as_ref().map(|entries| entries.iter().filter_map(entry).collect())
}

fn device(disk: &Disk) -> Device {
    let block_length = disk.block_length.bytes();
    let mut device =
        Device::new(disk.serial.clone(), disk.naa.to_bytes(), block_length, disk.block_count());
    device.provisioning = ProvisioningType::new(provisioning(disk));
    device
}

fn provisioning(disk: &Disk) -> scsi::Provisioning {
    match disk.provisioning {
        Provisioning::Thin => scsi::Provisioning::Thin,
        Provisioning::Full => scsi::Provisioning::Full,
    }
}
