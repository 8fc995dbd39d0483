//! Methods on targets and on sessions.

use job_engine::catalogue::{check_iscsi_name, default_target_name};
use job_engine::{Expose, ExposeTo, Hide};

use super::expose::{new_name, target};
use super::fault::Fault;
use super::methods::{COMPLETED, INVALID_PARAMETER, Inputs, NOT_SUPPORTED, Outcome};
use super::operations::Work;
use super::path::ObjectPath;
use super::ports::tsih_of;
use super::time;
use super::value::Value;
use crate::service::SessionRequest;

impl Work<'_> {
    /// `CreateiSCSINode`: a target that lets nobody in yet.
    pub(crate) fn create_node(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const ALIAS_IN_USE: u32 = 4097;
        let alias = inputs.get("Alias").and_then(Value::as_text).unwrap_or_default();
        let targets = &self.view.snapshot().targets;
        if !alias.is_empty() && targets.iter().any(|target| target.alias == alias) {
            return Ok(Outcome::of(ALIAS_IN_USE));
        }
        let wanted = default_target_name(alias);
        let usable = check_iscsi_name(&wanted).is_ok()
            && !targets.iter().any(|target| target.name == wanted);
        let target = if usable { wanted } else { new_name("node") };
        let request = Expose {
            target: target.clone(),
            create: Some(alias.to_owned()),
            units: Vec::new(),
            initiators: Vec::new(),
            to: ExposeTo::Everybody,
        };
        self.engine.expose(request)?;
        Ok(Outcome::of(COMPLETED).with("iSCSINode", self.view.controller_path(&target)))
    }

    /// `DeleteiSCSINode`
    pub(crate) fn delete_node(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const UNKNOWN: u32 = 4096;
        const SESSIONS: u32 = 4097;
        let Ok(target) = target(self, inputs.required_reference("iSCSINode")?) else {
            return Ok(Outcome::of(UNKNOWN));
        };
        let sessions = self.view.sessions().iter();
        if sessions.into_iter().any(|it| it.session.target.as_ref() == Some(&target)) {
            return Ok(Outcome::of(SESSIONS));
        }
        self.engine.hide(Hide { target, remove: true, ..Hide::default() })?;
        Ok(Outcome::of(COMPLETED))
    }

    /// `CreateiSCSIProtocolEndpoint`: every target has a port in each portal group, and the
    /// configuration says which groups there are.
    pub(crate) fn create_endpoint(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const NO_NODE: u32 = 4096;
        let node = target(self, inputs.required_reference("iSCSINode")?);
        Ok(Outcome::of(if node.is_ok() { NOT_SUPPORTED } else { NO_NODE }))
    }

    /// `DeleteiSCSIProtocolEndpoint` and `BindiSCSIProtocolEndPoint`: as before.
    pub(crate) fn change_endpoint(&self, inputs: &Inputs) -> Result<Outcome, Fault> {
        const NO_PORT: u32 = 4096;
        let port = self.existing(inputs.required_reference("iSCSIPort")?);
        Ok(Outcome::of(if port.is_ok() { NOT_SUPPORTED } else { NO_PORT }))
    }

    /// `RequestStateChange` of a session or of its connection. Shut down, the initiator is asked to
    /// log out; disabled, the session ends once what it has begun is answered.
    pub(crate) fn end_session(
        &self,
        object: &ObjectPath,
        inputs: &Inputs,
    ) -> Result<Outcome, Fault> {
        const ENABLED: u64 = 2;
        const DISABLED: u64 = 3;
        const SHUT_DOWN: u64 = 4;
        const LAST: u64 = 11;
        const NO_TIMEOUT: u32 = 4098;
        const DEFAULT_SECONDS: u16 = 10;
        let timeout = match inputs.get("TimeoutPeriod").and_then(Value::as_text) {
            None => None,
            Some(text) => Some(
                time::parse_interval(text)
                    .ok_or_else(|| Fault::invalid_parameter("TimeoutPeriod must be an interval"))?,
            ),
        };
        let request = match inputs.required_number("RequestedState")? {
            ENABLED => return Ok(Outcome::of(COMPLETED)),
            DISABLED if timeout.is_some() => return Ok(Outcome::of(NO_TIMEOUT)),
            DISABLED => SessionRequest::End,
            SHUT_DOWN => {
                let seconds = timeout.map(|time| u16::try_from(time.as_secs()).unwrap_or(u16::MAX));
                SessionRequest::Logout { seconds: seconds.unwrap_or(DEFAULT_SECONDS) }
            }
            state if state <= LAST => return Ok(Outcome::of(NOT_SUPPORTED)),
            _ => return Ok(Outcome::of(INVALID_PARAMETER)),
        };
        let tsih = object.text_key("InstanceID").and_then(tsih_of);
        let asked = tsih.zip(self.view.host()).is_some_and(|(tsih, host)| host.ask(tsih, request));
        if asked {
            Ok(Outcome::of(COMPLETED))
        } else {
            Err(Fault::not_found("the session is not there any more"))
        }
    }
}
