//! CHAP accounts as `CIM_SharedSecret`, and the targets that they are good for.

use job_engine::Role;
use job_engine::error::{NAMESPACE, SYSTEM_CLASS};

use super::expose::target;
use super::fault::{Fault, Status};
use super::instances::{Part, SERVICE_NAME, Space, View, link};
use super::operations::Work;
use super::path::ObjectPath;
use super::ports::ISCSI_SERVICE;
use super::value::{Instance, Raw, RawInstance, Value, convert};
use crate::api::{ChapAccount, Secret, SetChapAccount};
use crate::service::{Host, Refusal, ServiceError};

pub(crate) const SECRET: &str = "LUND_SharedSecret";
pub(crate) const CONTEXT: &str = "LUND_CredentialContext";

/// These classes.
pub(crate) const PART: Part =
    Part { elements: &[(SECRET, Space::Storage)], links: &[(CONTEXT, Space::Storage)], instances };

/// Whether clients make instances of this class here.
pub(crate) fn is_ours(class: &str) -> bool {
    let ours = [SECRET, CONTEXT, "CIM_SharedSecret", "CIM_CredentialContext"];
    ours.iter().any(|own| own.eq_ignore_ascii_case(class))
}

fn secret_path(view: &View<'_>, user: &str) -> ObjectPath {
    ObjectPath::new(NAMESPACE, SECRET)
        .with("SystemCreationClassName", SYSTEM_CLASS)
        .with("SystemName", view.system)
        .with("ServiceCreationClassName", ISCSI_SERVICE)
        .with("ServiceName", SERVICE_NAME)
        .with("RemoteID", user)
}

fn instances(view: &View<'_>, class: &'static str) -> Vec<Instance> {
    let accounts = view.chap_accounts();
    match class {
        SECRET => accounts.iter().map(|account| secret(view, account)).collect(),
        CONTEXT => accounts.iter().flat_map(|account| contexts(view, account)).collect(),
        _ => Vec::new(),
    }
}

/// Without the secret.
fn secret(view: &View<'_>, account: &ChapAccount) -> Instance {
    let name = if account.configured { "Of the configuration" } else { "Of management" };
    Instance::new(SECRET)
        .with("SystemCreationClassName", SYSTEM_CLASS)
        .with("SystemName", view.system)
        .with("ServiceCreationClassName", ISCSI_SERVICE)
        .with("ServiceName", SERVICE_NAME)
        .with("RemoteID", account.user.as_str())
        .with("ElementName", account.user.as_str())
        .with("Caption", name)
        .with("Protocol", "CHAP")
}

/// Targets that are there.
fn contexts(view: &View<'_>, account: &ChapAccount) -> Vec<Instance> {
    let elements: Vec<ObjectPath> = match &account.targets {
        _ if account.discovery_only => Vec::new(),
        None => vec![view.service_path(ISCSI_SERVICE)],
        Some(names) => {
            let targets = &view.snapshot().targets;
            let known = names.iter().filter(|name| targets.iter().any(|it| it.name == **name));
            known.map(|name| view.controller_path(name)).collect()
        }
    };
    let context = |element| {
        let of = ("ElementInContext", secret_path(view, &account.user));
        // Trusted for authentication.
        link(CONTEXT, of, ("ElementProvidingContext", element)).with("Usage", 4_u16)
    };
    elements.into_iter().map(context).collect()
}

fn refused(error: ServiceError) -> Fault {
    let status = match error.refusal {
        Refusal::Invalid => Status::InvalidParameter,
        Refusal::NotFound => Status::NotFound,
        Refusal::NoSpace => Status::ServerLimitsExceeded,
        Refusal::Changed | Refusal::Conflict | Refusal::Unavailable | Refusal::Internal => {
            Status::Failed
        }
    };
    let problem = *error.problem;
    Fault::new(status, problem.message)
}

impl Work<'_> {
    /// Who lets initiators in is an administrator, over every protocol.
    fn accounts(&self) -> Result<&dyn Host, Fault> {
        if self.role < Role::Administrator {
            let text = format!("accounts are for administrators; whoever asks is {}", self.role);
            return Err(Fault::new(Status::AccessDenied, text));
        }
        let host = self.view.host();
        host.ok_or_else(|| Fault::not_supported("there is no data path, and nobody to let in"))
    }

    fn text(&self, raw: &RawInstance, name: &str) -> Result<Option<String>, Fault> {
        let class = self.class(&raw.class)?;
        let property = class.property(name).ok_or_else(|| {
            Fault::new(Status::NoSuchProperty, format!("{} has no {name}", class.name))
        })?;
        let given = raw.properties.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        let value = given.map_or(&Raw::Null, |(_, value)| value);
        let value = convert(value, &property.cim_type, property.array, name)?;
        Ok(value.as_ref().and_then(Value::as_text).map(str::to_owned))
    }

    fn end(&self, raw: &RawInstance, name: &str) -> Result<ObjectPath, Fault> {
        let given = raw.properties.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        match given {
            Some((_, Raw::Reference(path))) => Ok(path.clone()),
            _ => Err(Fault::invalid_parameter(format!("{name} must be a reference"))),
        }
    }

    fn account_at(&self, path: &ObjectPath) -> Result<ChapAccount, Fault> {
        let found = self.existing(path)?;
        let user = found.get("RemoteID").and_then(Value::as_text).filter(|_| found.class == SECRET);
        let account = self.view.chap_accounts().iter().find(|own| Some(own.user.as_str()) == user);
        account.cloned().ok_or_else(|| Fault::invalid_parameter("it is no CIM_SharedSecret"))
    }

    fn target_at(&self, path: &ObjectPath) -> Result<String, Fault> {
        let wrong = |_: Fault| Fault::invalid_parameter("ElementProvidingContext must be a target");
        target(self, path).map_err(wrong)
    }

    /// `CreateInstance` of an account, or of a target that it is good for.
    pub(crate) fn create_credential(&self, raw: &RawInstance) -> Result<ObjectPath, Fault> {
        // CIM_ERR_ALREADY_EXISTS
        const EXISTS: Status = Status::Other(11);
        let host = self.accounts()?;
        if self.schema.is_a(&raw.class, "CIM_CredentialContext") {
            let of = self.end(raw, "ElementInContext")?;
            let at = self.end(raw, "ElementProvidingContext")?;
            let (account, target) = (self.account_at(&of)?, self.target_at(&at)?);
            let Some(mut targets) = account.targets else {
                return Err(Fault::new(EXISTS, "the account is good for all targets"));
            };
            if targets.contains(&target) {
                return Err(Fault::new(EXISTS, "the account is good for this target already"));
            }
            targets.push(target.clone());
            self.set_targets(host, &account.user, targets)?;
            let ends = link(
                CONTEXT,
                ("ElementInContext", secret_path(&self.view, &account.user)),
                ("ElementProvidingContext", self.view.controller_path(&target)),
            );
            return Ok(super::encode::path_of(self.class(CONTEXT)?, &ends, self.namespace));
        }
        let user = self.text(raw, "RemoteID")?.unwrap_or_default();
        if self.view.chap_accounts().iter().any(|own| own.user == user) {
            return Err(Fault::new(EXISTS, format!("there is an account {user} already")));
        }
        let secret = self.text(raw, "Secret")?;
        let secret = secret.ok_or_else(|| Fault::invalid_parameter("Secret must be given"))?;
        let request = SetChapAccount {
            secret: Some(Secret(secret)),
            // None until a client says which.
            targets: Some(Vec::new()),
            initiators: None,
            open: false,
        };
        host.set_chap_account(&user, &request).map_err(refused)?;
        Ok(secret_path(&self.view, &user))
    }

    fn set_targets(&self, host: &dyn Host, user: &str, targets: Vec<String>) -> Result<(), Fault> {
        let account = self.view.chap_accounts().iter().find(|own| own.user == user);
        let initiators = account.and_then(|account| account.initiators.clone());
        let request =
            SetChapAccount { secret: None, targets: Some(targets), initiators, open: false };
        host.set_chap_account(user, &request).map(|_| ()).map_err(refused)
    }

    /// `ModifyInstance` of an account: a new secret.
    pub(crate) fn modify_credential(
        &self,
        path: &ObjectPath,
        raw: &RawInstance,
        listed: Option<&[String]>,
    ) -> Result<(), Fault> {
        let host = self.accounts()?;
        let account = self.account_at(path)?;
        let listed = listed.unwrap_or_default();
        if let Some(other) = listed.iter().find(|name| !name.eq_ignore_ascii_case("Secret")) {
            return Err(Fault::not_supported(format!("{other} cannot be written")));
        }
        // Who sends back what was read sends no secret.
        let Some(secret) = self.text(raw, "Secret")? else { return Ok(()) };
        let request = SetChapAccount {
            secret: Some(Secret(secret)),
            targets: account.targets,
            initiators: account.initiators,
            open: false,
        };
        host.set_chap_account(&account.user, &request).map(|_| ()).map_err(refused)
    }

    /// `DeleteInstance` of an account, or of a target that it is good for. Refused if that would
    /// open a target to everybody.
    pub(crate) fn delete_credential(&self, path: &ObjectPath) -> Result<(), Fault> {
        let host = self.accounts()?;
        if self.schema.is_a(&path.class, "CIM_CredentialContext") {
            let found = self.existing(path)?;
            let end = |name| found.get(name).and_then(Value::as_reference);
            let (of, at) = (end("ElementInContext"), end("ElementProvidingContext"));
            let (Some(of), Some(at)) = (of, at) else {
                return Err(Fault::not_found("there is no such association"));
            };
            let (account, target) = (self.account_at(of)?, self.target_at(at)?);
            let targets = account.targets.unwrap_or_default();
            let targets = targets.into_iter().filter(|own| *own != target).collect();
            return self.set_targets(host, &account.user, targets);
        }
        let account = self.account_at(path)?;
        host.delete_chap_account(&account.user, false).map_err(refused)
    }
}
