//! `iscsi.alua`: who can change the access states of portal groups.

use scsi::AccessMethods;
use serde::Deserialize;

/// What TPGS in INQUIRY data says (SPC-4 §6.6.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Alua {
    /// There are no access states.
    None,
    /// The operator can.
    #[default]
    Implicit,
    /// Initiators can, with SET TARGET PORT GROUPS; and the operator, but hosts are told that they
    /// alone do.
    Explicit,
    /// The operator and initiators can.
    Both,
}

impl Alua {
    pub(super) const fn methods(self) -> AccessMethods {
        match self {
            Self::None => AccessMethods { implicit: false, explicit: false },
            Self::Implicit => AccessMethods { implicit: true, explicit: false },
            Self::Explicit => AccessMethods { implicit: false, explicit: true },
            Self::Both => AccessMethods { implicit: true, explicit: true },
        }
    }
}
