//! Which role each operation and each method needs.

use job_engine::Role;
use job_engine::Role::{Operator, Viewer};

use super::request::Call;

/// Intrinsic operations (DSP0200 §5.3) that this server knows.
pub(crate) const OPERATIONS: &[(&str, Role)] = &[
    ("GetClass", Viewer),
    ("EnumerateClasses", Viewer),
    ("EnumerateClassNames", Viewer),
    ("GetQualifier", Viewer),
    ("EnumerateQualifiers", Viewer),
    ("GetInstance", Viewer),
    ("EnumerateInstances", Viewer),
    ("EnumerateInstanceNames", Viewer),
    ("GetProperty", Viewer),
    ("Associators", Viewer),
    ("AssociatorNames", Viewer),
    ("References", Viewer),
    ("ReferenceNames", Viewer),
    ("OpenEnumerateInstances", Viewer),
    ("OpenEnumerateInstancePaths", Viewer),
    ("OpenReferenceInstances", Viewer),
    ("OpenReferenceInstancePaths", Viewer),
    ("OpenAssociatorInstances", Viewer),
    ("OpenAssociatorInstancePaths", Viewer),
    ("OpenQueryInstances", Viewer),
    ("PullInstancesWithPath", Viewer),
    ("PullInstancePaths", Viewer),
    ("PullInstances", Viewer),
    ("CloseEnumeration", Viewer),
    ("CreateInstance", Operator),
    ("ModifyInstance", Operator),
    ("SetProperty", Operator),
    ("DeleteInstance", Operator),
];

/// Methods of the classes. A name means the same in each of them.
pub(crate) const METHODS: &[(&str, Role)] = &[
    ("AttachDevice", Operator),
    ("ConvertReplicationTypeToSyncType", Viewer),
    ("ConvertSyncTypeToReplicationType", Viewer),
    ("BindiSCSIProtocolEndPoint", Operator),
    ("CreateElementReplica", Operator),
    ("CreateListReplica", Operator),
    ("CreateOrModifyElementFromStoragePool", Operator),
    ("CreateReplica", Operator),
    ("CreateSetting", Operator),
    ("CreateStorageHardwareID", Operator),
    ("CreateiSCSINode", Operator),
    ("CreateiSCSIProtocolEndpoint", Operator),
    ("DeleteProtocolController", Operator),
    ("DeleteStorageHardwareID", Operator),
    ("DeleteiSCSINode", Operator),
    ("DeleteiSCSIProtocolEndpoint", Operator),
    ("DetachDevice", Operator),
    ("ExposePaths", Operator),
    ("GetError", Viewer),
    ("GetErrors", Viewer),
    ("GetStatisticsCollection", Viewer),
    ("GetSupportedCopyStates", Viewer),
    ("GetSupportedFeatures", Viewer),
    ("GetSupportedOperations", Viewer),
    ("GetSupportedSizeRange", Viewer),
    ("GetSupportedSizes", Viewer),
    ("GetSupportedWaitForCopyStates", Viewer),
    ("HidePaths", Operator),
    ("KillJob", Operator),
    ("ModifyReplicaSynchronization", Operator),
    ("ModifySynchronization", Operator),
    ("RequestStateChange", Operator),
    ("ReturnToStoragePool", Operator),
];

fn find(table: &[(&str, Role)], name: &str) -> Option<Role> {
    table.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, role)| *role)
}

/// What a call needs. What is not known is refused to all but administrators, who are told that it
/// is not known.
pub(crate) fn role(call: &Call) -> Role {
    match call {
        Call::Intrinsic { name, .. } => of_operation(name),
        Call::Method { name, .. } => of_method(name),
    }
}

pub(super) fn of_operation(name: &str) -> Role {
    find(OPERATIONS, name).unwrap_or(Role::Administrator)
}

pub(super) fn of_method(name: &str) -> Role {
    find(METHODS, name).unwrap_or(Role::Administrator)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::schema::Schema;
    use super::*;

    #[test]
    fn every_method_of_the_schema_is_in_the_table_and_no_other() {
        let schema = Schema::load().unwrap();
        let classes = schema.below(None, true);
        let methods = classes.iter().flat_map(|class| &class.methods);
        let declared: BTreeSet<&str> = methods.map(|method| method.name.as_str()).collect();
        let listed: BTreeSet<&str> = METHODS.iter().map(|(name, _)| *name).collect();
        assert_eq!(declared, listed, "mgmt-api/src/cim/rights.rs says who may call a method");
        assert_eq!(listed.len(), METHODS.len());
    }
}
