//! The node as the management sees it.

use std::sync::Arc;

use job_engine::Engine;
use mgmt_api::api;
use mgmt_api::otlp::{Exporter, Figures};
use mgmt_api::service::{
    self, AccessStateRefusal, Host, Kept, KeptRecords, SessionRequest, TraceRefusal,
};
use scsi::AccessMethods;
use target_core::{Node, NodeConfig, NodeState};
use tokio::runtime::Handle;

use super::DRAIN_LIMIT;
use crate::access_states;
use crate::chap_accounts::ChapAccounts;
use crate::io_limits::IoLimits;
use crate::isns;
use crate::sessions;

/// The node as the management sees it.
pub(crate) struct NodeHost {
    pub(crate) node: Arc<Node>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) settings: Vec<api::Setting>,
    pub(crate) portals: Vec<String>,
    pub(crate) isns: Option<isns::Status>,
    pub(crate) access_methods: AccessMethods,
    pub(crate) chap: Arc<ChapAccounts>,
    pub(crate) limits: Arc<IoLimits>,
    pub(crate) exporter: Option<Arc<Exporter>>,
    pub(crate) runtime: Handle,
}

impl Host for NodeHost {
    fn sessions(&self) -> Vec<api::Session> {
        self.node.sessions().into_iter().map(sessions::summary).collect()
    }

    fn totals(&self) -> service::TotalCounters {
        sessions::totals(&self.node)
    }

    fn senses(&self) -> [u64; 16] {
        self.node.senses()
    }

    fn pinned_bytes(&self) -> u64 {
        disk_image::hot_bytes()
    }

    fn units(&self) -> Vec<service::UnitCounters> {
        self.node.units().iter().map(|unit| sessions::unit(unit)).collect()
    }

    fn session(&self, tsih: u16) -> Option<api::SessionDetail> {
        self.node.session(tsih).map(sessions::detail)
    }

    fn session_times(&self, tsih: u16) -> Vec<(&'static str, service::Times)> {
        let detail = self.node.session(tsih);
        detail.map(|detail| sessions::by_kind(&detail.times)).unwrap_or_default()
    }

    fn traces(&self) -> Option<Figures> {
        self.exporter.as_ref().map(|exporter| exporter.figures())
    }

    fn session_parameters(&self) -> api::SessionParameters {
        sessions::offered(&NodeConfig::default())
    }

    fn ask(&self, tsih: u16, request: SessionRequest) -> bool {
        tracing::info!(tsih, ?request, "an operator asks");
        match request {
            SessionRequest::Logout { seconds } => self.node.ask_logout(tsih, seconds),
            SessionRequest::Renegotiate { seconds } => self.node.ask_renegotiation(tsih, seconds),
            SessionRequest::End => self.node.end_session(tsih),
        }
    }

    fn trace(&self, tsih: u16) -> Result<service::Trace, TraceRefusal> {
        sessions::trace(&self.node, tsih)
    }

    fn portals(&self) -> Vec<String> {
        self.portals.clone()
    }

    fn portal_groups(&self) -> Vec<api::PortalGroup> {
        access_states::list(&self.node)
    }

    fn set_access_state(
        &self,
        group: u16,
        target: Option<&str>,
        state: Option<api::AccessState>,
    ) -> Result<(), AccessStateRefusal> {
        if !self.access_methods.any() {
            return Err(AccessStateRefusal::Disabled);
        }
        access_states::set(&self.node, group, target, state)
    }

    fn chap_accounts(&self) -> Vec<api::ChapAccount> {
        self.chap.list()
    }

    fn set_chap_account(
        &self,
        user: &str,
        request: &api::SetChapAccount,
    ) -> service::Result<api::ChapAccount> {
        self.chap.set(user, request)
    }

    fn delete_chap_account(&self, user: &str, open: bool) -> service::Result<()> {
        self.chap.delete(user, open)
    }

    fn limits(&self) -> Vec<(service::LimitOf, api::SetLimit)> {
        self.limits.list()
    }

    fn set_limit(
        &self,
        of: &service::LimitOf,
        limit: Option<api::SetLimit>,
    ) -> service::Result<()> {
        self.limits.set(of, limit)
    }

    fn configure(
        &self,
        wanted: &Kept,
        commit: &mut dyn FnMut(KeptRecords) -> service::Result<bool>,
    ) -> service::Result<()> {
        self.chap.replace(wanted, &mut |accounts| {
            let mut made = false;
            self.limits.replace(wanted.limits.as_deref(), &mut |limits| {
                let mut all = accounts.clone();
                all.texts.extend(limits);
                made = commit(all)?;
                Ok(made)
            })?;
            Ok(made)
        })
    }

    fn settings(&self) -> Vec<api::Setting> {
        self.settings.clone()
    }

    fn has_access_states(&self) -> bool {
        self.access_methods.any()
    }

    fn reload_access_states(&self) {
        if self.access_methods.any() {
            let stored = || {
                let stored = self.engine.access_states();
                stored.into_iter().map(access_states::restored).collect()
            };
            self.node.reload_access_states(stored);
        }
    }

    fn isns(&self) -> Option<api::Isns> {
        let status = self.isns.as_ref()?;
        Some(api::Isns { server: status.server.clone(), state: status.state() })
    }

    fn state(&self) -> api::NodeState {
        match self.node.state() {
            NodeState::Starting => api::NodeState::Starting,
            NodeState::Serving => api::NodeState::Serving,
            NodeState::Draining => api::NodeState::Draining,
            NodeState::Stopping => api::NodeState::Stopping,
        }
    }

    fn drain(&self) {
        tracing::info!("lund drains, as it was asked to");
        if !self.runtime.block_on(self.node.drain(DRAIN_LIMIT)) {
            tracing::warn!("sessions are still there after a drain");
        }
    }

    fn resume(&self) -> bool {
        tracing::info!("lund is asked to let initiators in again");
        self.node.resume().is_ok()
    }
}
