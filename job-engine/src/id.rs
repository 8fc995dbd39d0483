//! Identifiers: stable for the life of what they name, never used again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Prefix of every `InstanceID` that this product makes (CIM_ConcreteJob.InstanceID:
/// `<OrgID>:<LocalID>`).
pub const INSTANCE_ID_PREFIX: &str = "MSISCSITARGET:";

/// A text that is no identifier of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid identifier")]
pub struct InvalidId(pub String);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one. They sort in the order of their creation (UUID version 7).
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID.
            #[must_use]
            pub fn uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Takes the bare UUID, and the `InstanceID` form with its prefix.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let bare = text.strip_prefix(INSTANCE_ID_PREFIX).unwrap_or(text);
                Uuid::try_parse(bare).map(Self).map_err(|_| InvalidId(text.to_owned()))
            }
        }
    };
}

uuid_id! {
    /// A job.
    JobId
}
uuid_id! {
    /// A virtual disk.
    DiskId
}

uuid_id! {
    /// A snapshot of a disk.
    SnapshotId
}

impl JobId {
    /// The job's trace, as W3C Trace Context and OpenTelemetry write one: its lines of the log have it.
    #[must_use]
    pub fn trace(&self) -> String {
        self.0.simple().to_string()
    }

    /// `CIM_ConcreteJob.InstanceID`: the same before and after a restart.
    #[must_use]
    pub fn instance_id(&self) -> String {
        format!("{INSTANCE_ID_PREFIX}{}", self.0)
    }
}

/// A storage pool: one directory. The name of the default pool is [`PoolId::DEFAULT`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolId(pub String);

impl PoolId {
    /// Name of the pool that exists without any configuration.
    pub const DEFAULT: &'static str = "default";

    /// `CIM_StoragePool.InstanceID`.
    #[must_use]
    pub fn instance_id(&self) -> String {
        format!("{INSTANCE_ID_PREFIX}pool:{}", self.0)
    }

    /// Takes the bare name, and the `InstanceID` form with its prefix.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let bare = text.strip_prefix(INSTANCE_ID_PREFIX).unwrap_or(text);
        Self(bare.strip_prefix("pool:").unwrap_or(bare).to_owned())
    }
}

impl Default for PoolId {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An NAA IEEE Registered Extended identifier (SPC-4 §7.8.6.6.5): 16 bytes, first nibble 6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Naa([u8; 16]);

/// The company identifier inside of every NAA made here: one with the "locally administered" bit
/// set, so that it belongs to no vendor.
const COMPANY_ID: [u8; 3] = [0x0a, 0x4c, 0x55];

impl Naa {
    /// An identifier made from 100 bits of `seed`.
    #[must_use]
    pub fn from_seed(seed: u128) -> Self {
        let company = COMPANY_ID.iter().fold(0_u128, |all, byte| (all << 8) | u128::from(*byte));
        let value = (6_u128 << 124) | (company << 100) | (seed & ((1 << 100) - 1));
        Self(value.to_be_bytes())
    }

    /// As in VPD page 83h.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// 32 lower-case hexadecimal digits: `CIM_StorageVolume.Name` with `NameFormat` 9.
impl fmt::Display for Naa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Naa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Naa({self})")
    }
}

impl FromStr for Naa {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId(text.to_owned());
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let value = u128::from_str_radix(text, 16).map_err(|_| invalid())?;
        if value >> 124 == 6 { Ok(Self(value.to_be_bytes())) } else { Err(invalid()) }
    }
}

impl Serialize for Naa {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Naa {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
