//! Why an operation fails, as DSP0200 says it.

use job_engine::{CimError, RequestError};

/// Status codes of DSP0200 §5.2.5 that are answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Failed,
    AccessDenied,
    InvalidNamespace,
    InvalidParameter,
    InvalidClass,
    NotFound,
    NotSupported,
    NoSuchProperty,
    TypeMismatch,
    MethodNotFound,
    InvalidEnumerationContext,
    InvalidOperationTimeout,
    FilteredEnumerationNotSupported,
    ContinuationOnErrorNotSupported,
    ServerLimitsExceeded,
    /// A code of a `CIM_Error` that has no name here.
    Other(u32),
}

impl Status {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Failed => 1,
            Self::AccessDenied => 2,
            Self::InvalidNamespace => 3,
            Self::InvalidParameter => 4,
            Self::InvalidClass => 5,
            Self::NotFound => 6,
            Self::NotSupported => 7,
            Self::NoSuchProperty => 12,
            Self::TypeMismatch => 13,
            Self::MethodNotFound => 17,
            Self::InvalidEnumerationContext => 21,
            Self::InvalidOperationTimeout => 22,
            Self::FilteredEnumerationNotSupported => 25,
            Self::ContinuationOnErrorNotSupported => 26,
            Self::ServerLimitsExceeded => 27,
            Self::Other(number) => number,
        }
    }
}

/// An `ERROR` element.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    pub(crate) status: Status,
    pub(crate) description: String,
    /// The whole story, if the engine refused.
    pub(crate) error: Option<Box<CimError>>,
}

impl Fault {
    pub(crate) fn new(status: Status, description: impl Into<String>) -> Self {
        Self { status, description: description.into(), error: None }
    }

    pub(crate) fn invalid_parameter(description: impl Into<String>) -> Self {
        Self::new(Status::InvalidParameter, description)
    }

    pub(crate) fn not_found(description: impl Into<String>) -> Self {
        Self::new(Status::NotFound, description)
    }

    pub(crate) fn not_supported(description: impl Into<String>) -> Self {
        Self::new(Status::NotSupported, description)
    }

    /// For the parameters of methods a wrong type is an invalid parameter.
    pub(crate) fn of_parameter(mut self) -> Self {
        if self.status == Status::TypeMismatch {
            self.status = Status::InvalidParameter;
        }
        self
    }
}

impl From<RequestError> for Fault {
    fn from(refused: RequestError) -> Self {
        let error = refused.cim_error();
        Self {
            status: Status::Other(error.cim_status_code.max(1)),
            description: error.message.clone(),
            error: Some(Box::new(error.clone())),
        }
    }
}
