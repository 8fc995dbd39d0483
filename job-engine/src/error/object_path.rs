//! Object paths: how an element is named in `ErrorSource` and in references.

use crate::job::Element;

/// The namespace of everything but the profile registration.
pub const NAMESPACE: &str = "root/cimv2/storage/iscsitarget";

/// Class of the system that everything belongs to.
pub const SYSTEM_CLASS: &str = "MSFTSM_ComputerSystem";

/// Makes object paths; knows the name of the system.
#[derive(Debug, Clone)]
pub struct ObjectPaths {
    system_name: String,
}

impl ObjectPaths {
    /// Paths of elements of the system `system_name`.
    #[must_use]
    pub fn new(system_name: impl Into<String>) -> Self {
        Self { system_name: system_name.into() }
    }

    /// `CIM_ComputerSystem.Name`.
    #[must_use]
    pub fn system_name(&self) -> &str {
        &self.system_name
    }

    /// The untyped WBEM URI of an element without host: `<namespace>:<class>.<key>="<value>",…`
    /// (DSP0207 §5.3).
    #[must_use]
    pub fn of(&self, element: &Element) -> String {
        match element {
            Element::Disk(disk) => self.device("MSISCSITARGET_StorageVolume", &disk.to_string()),
            Element::Target(name) => self.device("MSISCSITARGET_SCSIProtocolController", name),
            Element::Pool(pool) => instance("MSISCSITARGET_StoragePool", &pool.instance_id()),
            Element::Job(job) => instance("MSISCSITARGET_ConcreteJob", &job.instance_id()),
        }
    }

    fn device(&self, class: &str, device_id: &str) -> String {
        format!(
            "{NAMESPACE}:{class}.CreationClassName=\"{class}\",DeviceID=\"{}\",\
             SystemCreationClassName=\"{SYSTEM_CLASS}\",SystemName=\"{}\"",
            escape(device_id),
            escape(&self.system_name)
        )
    }
}

fn instance(class: &str, instance_id: &str) -> String {
    format!("{NAMESPACE}:{class}.InstanceID=\"{}\"", escape(instance_id))
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}
