//! What the data path leaves with the engine: faults, reservations and long operations.

use std::sync::Arc;

use job_engine::{DiskId, Engine, FaultReport};
use parking_lot::RwLock;
use target_core::{
    AccessStateChange, AccessStateStore, Events, Fault, ModePageStore, OperationRefused,
    OperationRequest, Operations, ReservationStore, SessionEnd, SessionSummary,
};

use crate::access_states;

/// What the data path leaves with the engine: faults, reservations and long operations.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    engine: RwLock<Option<Arc<Engine>>>,
}

impl Recorder {
    pub(crate) fn connect(&self, engine: Arc<Engine>) {
        *self.engine.write() = Some(engine);
    }

    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.read().clone()
    }

    pub(super) fn mode_pages(&self, disk: &DiskId) -> Option<Vec<u8>> {
        self.engine.read().as_ref()?.mode_pages(disk)
    }

    pub(super) fn reservations(&self, disk: &DiskId) -> Option<Vec<u8>> {
        self.engine.read().as_ref()?.reservations(disk)
    }

    pub(super) fn condition(&self, disk: &DiskId) -> Option<Vec<u8>> {
        self.engine.read().as_ref()?.condition(disk)
    }

    fn running(&self) -> Result<Arc<Engine>, OperationRefused> {
        let stopping = || OperationRefused::Unavailable("the daemon is stopping".to_owned());
        self.engine.read().clone().ok_or_else(stopping)
    }

    pub(crate) fn disconnect(&self) {
        *self.engine.write() = None;
    }
}

impl ReservationStore for Recorder {
    fn save(&self, unit: &str, state: Option<Vec<u8>>) -> Result<(), String> {
        let engine = self.engine.read().clone().ok_or("the daemon is stopping")?;
        let disk = unit.parse().map_err(|error| format!("{unit}: {error}"))?;
        engine.save_reservations(disk, state).map_err(|error| error.to_string())
    }
}

impl ModePageStore for Recorder {
    fn save(&self, unit: &str, pages: Vec<u8>) -> Result<(), String> {
        let engine = self.engine().ok_or("the daemon is stopping")?;
        let disk = unit.parse().map_err(|error| format!("{unit}: {error}"))?;
        engine.save_mode_pages(disk, pages).map_err(|error| error.to_string())
    }
}

impl AccessStateStore for Recorder {
    fn save(&self, changes: &[AccessStateChange]) -> Result<(), String> {
        let engine = self.engine.read().clone().ok_or("the daemon is stopping")?;
        let changes = changes.iter().map(access_states::change).collect();
        engine.save_access_states(changes).map_err(|error| error.to_string())
    }
}

impl Operations for Recorder {
    fn begin(&self, request: OperationRequest) -> Result<String, OperationRefused> {
        let OperationRequest { unit, word, verb, initiator, operation, condition } = request;
        let engine = self.running()?;
        let request = job_engine::OperationRequest {
            word: word.to_owned(),
            verb: verb.to_owned(),
            owner: initiator,
            operation,
            condition,
        };
        let begun = engine.begin_operation(disk_of(&unit)?, request);
        begun.map(|job| job.to_string()).map_err(|error| refused(&error))
    }

    fn clear_condition(&self, unit: &str) -> Result<(), OperationRefused> {
        let cleared = self.running()?.clear_condition(disk_of(unit)?);
        cleared.map_err(|error| refused(&error))
    }
}

fn disk_of(unit: &str) -> Result<DiskId, OperationRefused> {
    unit.parse().map_err(|error| OperationRefused::Unavailable(format!("{unit}: {error}")))
}

fn refused(error: &job_engine::RequestError) -> OperationRefused {
    if matches!(error.cause(), job_engine::Cause::DiskInUse { .. }) {
        OperationRefused::Busy(error.to_string())
    } else {
        OperationRefused::Unavailable(error.to_string())
    }
}

impl Events for Recorder {
    fn session_up(&self, session: &SessionSummary) {
        tracing::info!(
            initiator = session.initiator,
            to = session.target,
            address = %session.address,
            tsih = session.tsih,
            "session up"
        );
    }

    fn session_down(&self, session: &SessionSummary, end: SessionEnd) {
        tracing::info!(
            initiator = session.initiator,
            to = session.target,
            address = %session.address,
            tsih = session.tsih,
            commands = session.commands,
            ?end,
            "session down"
        );
    }

    fn fault(&self, fault: Fault) {
        let Some(engine) = self.engine.read().clone() else { return };
        let Ok(disk) = fault.unit.parse() else { return };
        engine.record_fault(FaultReport {
            disk,
            target: fault.target,
            lun: fault.lun,
            lba: fault.lba,
            opcode: fault.operation_code,
            initiator: fault.initiator,
            kind: fault.kind,
            operation: fault.operation,
            errno: fault.errno,
            path: fault.path,
            text: fault.text,
        });
    }
}
