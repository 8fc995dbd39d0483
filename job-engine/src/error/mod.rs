//! `CIM_Error`: one type, one table from causes to it.

mod cause;
mod object_path;
mod row;
mod table;

pub use cause::{Cause, ImageContext};
pub use object_path::{NAMESPACE, ObjectPaths, SYSTEM_CLASS};
pub use row::{MessageRow, messages_document};
pub use table::ROWS;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who defines the messages.
pub const OWNING_ENTITY: &str = "LUND";

/// `CIM_Error` with all of its properties (CIM Schema 2.49). Lists may be empty; a string that has
/// no value is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CimError {
    /// `ErrorType`: 1 Other, 2 Communications, 3 Quality of Service, 4 Software, 5 Hardware, …
    pub error_type: u16,
    /// `OtherErrorType`, if `error_type` is 1.
    pub other_error_type: Option<String>,
    /// `OwningEntity`.
    pub owning_entity: String,
    /// `MessageID`: a key of `docs/messages.md`.
    pub message_id: String,
    /// `Message`: the text with its arguments filled in.
    pub message: String,
    /// `MessageArguments`, in the order of the placeholders.
    pub message_arguments: Vec<String>,
    /// `PerceivedSeverity`: 2 Information, 3 Warning, 4 Minor, 5 Major, 6 Critical, 7 Fatal.
    pub perceived_severity: u16,
    /// `ProbableCause`.
    pub probable_cause: u16,
    /// `ProbableCauseDescription`.
    pub probable_cause_description: Option<String>,
    /// `RecommendedActions`: what an operator can do.
    pub recommended_actions: Vec<String>,
    /// `ErrorSource`: the object path of the element that it comes from.
    pub error_source: Option<String>,
    /// `ErrorSourceFormat`: 2 (CIMObjectPath), or 0 without a source.
    pub error_source_format: u16,
    /// `OtherErrorSourceFormat`: always absent here.
    pub other_error_source_format: Option<String>,
    /// `CIMStatusCode`: as in DSP0200 (1 FAILED, 4 INVALID_PARAMETER, 6 NOT_FOUND, …).
    pub cim_status_code: u32,
    /// `CIMStatusCodeDescription`.
    pub cim_status_code_description: Option<String>,
}

impl CimError {
    /// `CIM_Job.ErrorCode` for a job that failed with this: never 0.
    #[must_use]
    pub fn error_code(&self) -> u16 {
        let row = ROWS.iter().find(|row| row.id == self.message_id);
        // A message of a newer version is still not a success.
        row.map_or(u16::MAX, |row| row.error_code)
    }
}

/// A request that was refused before a job was made of it, or that could not be recorded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", error.message)]
pub struct RequestError {
    cause: Box<Cause>,
    error: Box<CimError>,
}

impl RequestError {
    pub(crate) fn new(cause: Cause, error: CimError) -> Self {
        Self { cause: Box::new(cause), error: Box::new(error) }
    }

    /// Why, as data.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Why, as clients see it.
    #[must_use]
    pub fn cim_error(&self) -> &CimError {
        &self.error
    }
}

#[cfg(test)]
mod tests;
