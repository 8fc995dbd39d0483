//! The shape of one message of the registry, and the registry as a document.

use std::fmt::Write as _;

use super::ROWS;

/// One message: everything of a `CIM_Error` that does not depend on the occasion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRow {
    /// `MessageID`.
    pub id: &'static str,
    /// `CIM_Job.ErrorCode` of a job that failed with it; not 0, unique.
    pub error_code: u16,
    /// `ErrorType`.
    pub error_type: u16,
    /// `OtherErrorType` for `error_type` 1.
    pub other_error_type: Option<&'static str>,
    /// `PerceivedSeverity`.
    pub severity: u16,
    /// `ProbableCause`.
    pub probable_cause: u16,
    /// `ProbableCauseDescription`.
    pub description: &'static str,
    /// `CIMStatusCode`.
    pub status: u32,
    /// `Message`, with placeholders `%1`, `%2`, …
    pub message: &'static str,
    /// What the arguments are, in order.
    pub arguments: &'static [&'static str],
    /// `RecommendedActions`.
    pub actions: &'static [&'static str],
}

impl MessageRow {
    /// The message with its arguments filled in.
    pub(crate) fn format(&self, arguments: &[String]) -> String {
        let mut text = String::with_capacity(self.message.len() + 64);
        let mut rest = self.message;
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = after.split_at_checked(digits).unwrap_or((after, ""));
            let argument =
                number.parse::<usize>().ok().and_then(|n| arguments.get(n.checked_sub(1)?));
            match argument {
                Some(argument) => text.push_str(argument),
                None => {
                    text.push('%');
                    text.push_str(number);
                }
            }
            rest = tail;
        }
        text.push_str(rest);
        text
    }
}

/// The name that DSP0200 gives a status code.
pub(crate) fn status_name(status: u32) -> &'static str {
    match status {
        1 => "CIM_ERR_FAILED",
        2 => "CIM_ERR_ACCESS_DENIED",
        4 => "CIM_ERR_INVALID_PARAMETER",
        6 => "CIM_ERR_NOT_FOUND",
        7 => "CIM_ERR_NOT_SUPPORTED",
        11 => "CIM_ERR_ALREADY_EXISTS",
        27 => "CIM_ERR_SERVER_LIMITS_EXCEEDED",
        28 => "CIM_ERR_SERVER_IS_SHUTTING_DOWN",
        _ => "CIM_ERR",
    }
}

/// The name that CIM_Error gives an `ErrorType`.
fn error_type_name(error_type: u16) -> &'static str {
    match error_type {
        1 => "Other",
        2 => "Communications Error",
        3 => "Quality of Service Error",
        4 => "Software Error",
        5 => "Hardware Error",
        6 => "Environmental Error",
        7 => "Security Error",
        8 => "Oversubscription Error",
        9 => "Unavailable Resource Error",
        10 => "Unsupported Operation Error",
        _ => "Unknown",
    }
}

/// The name that CIM_Error gives a `PerceivedSeverity`.
fn severity_name(severity: u16) -> &'static str {
    match severity {
        2 => "Information",
        3 => "Degraded/Warning",
        4 => "Minor",
        5 => "Major",
        6 => "Critical",
        7 => "Fatal/NonRecoverable",
        _ => "Unknown",
    }
}

/// The registry as Markdown: `docs/messages.md`.
#[must_use]
pub fn messages_document() -> String {
    let mut text = String::from(
        "# Messages\n\n\
         Every `CIM_Error` that lund answers has `OwningEntity` \"LUND\" and one of these \
         `MessageID`s. `ErrorCode` is what `CIM_Job.ErrorCode` says for a job that failed with \
         it.\n\n\
         This file is made from `job-engine/src/error/table.rs`; a test holds the two together \
         (`UPDATE_DOCS=1 cargo test -p job-engine messages` writes it).\n",
    );
    for row in ROWS {
        let error_type = row.other_error_type.map_or_else(
            || error_type_name(row.error_type).to_owned(),
            |other| format!("Other: {other}"),
        );
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n## {}\n\n> {}\n\n\
             | property | value |\n| --- | --- |\n\
             | ErrorCode | {} |\n\
             | ErrorType | {} {error_type} |\n\
             | PerceivedSeverity | {} {} |\n\
             | ProbableCause | {} |\n\
             | CIMStatusCode | {} {} |\n\n{}\n",
            row.id,
            row.message,
            row.error_code,
            row.error_type,
            row.severity,
            severity_name(row.severity),
            row.probable_cause,
            row.status,
            status_name(row.status),
            row.description,
        );
        if !row.arguments.is_empty() {
            text.push_str("\nArguments:\n\n");
            for (index, argument) in row.arguments.iter().enumerate() {
                let _ = writeln!(text, "{}. {argument}", index + 1);
            }
        }
        text.push_str("\nWhat to do:\n\n");
        for action in row.actions {
            let _ = writeln!(text, "- {action}");
        }
    }
    text
}
