//! Tables for people, JSON for programs.

use std::io::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::Failure;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints a value, or the text that people get instead.
    pub(crate) fn value(self, value: &impl Serialize, text: impl FnOnce() -> String) {
        let text = if self.json {
            // Values of the API are always JSON.
            serde_json::to_string_pretty(value).unwrap_or_default()
        } else {
            text()
        };
        if !text.is_empty() {
            // Whoever closed the pipe has read enough.
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
        }
    }

    /// Prints a failure: what went wrong, and what can be done.
    pub(crate) fn failure(self, failure: &Failure) {
        if matches!(failure, Failure::Differs) {
            return;
        }
        let error = match failure {
            Failure::Refused { problem, .. } => problem.error.as_ref(),
            Failure::Job { job } => job.errors.first(),
            Failure::Unreachable { .. }
            | Failure::Differs
            | Failure::Timeout { .. }
            | Failure::Usage(_)
            | Failure::Other(_) => None,
        };
        if self.json {
            let value = serde_json::json!({
                "message": failure.to_string(),
                "exit_status": failure.code(),
                "error": error,
            });
            let _ = writeln!(std::io::stderr(), "{value:#}");
            return;
        }
        let mut text = format!("lunctl: {failure}\n");
        if let Failure::Refused { hint: Some(hint), .. } = failure {
            text.push_str(&format!("  - {hint}\n"));
        }
        for action in error.iter().flat_map(|error| &error.recommended_actions) {
            text.push_str(&format!("  - {action}\n"));
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// A table; nothing at all without rows.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    let mut empty = true;
    for row in rows {
        table.add_row(row);
        empty = false;
    }
    if empty { String::new() } else { trimmed(&table.to_string()) }
}

fn trimmed(table: &str) -> String {
    table.lines().map(|line| line.trim_end().trim_start_matches(' ')).collect::<Vec<_>>().join("\n")
}
