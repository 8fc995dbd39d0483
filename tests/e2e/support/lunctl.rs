//! The command line, run as a user would.

use std::process::{Command, Stdio};

/// How it ended.
#[derive(Debug)]
pub(crate) struct Run {
    arguments: String,
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// `lunctl`, not started yet.
pub(crate) fn lunctl_command(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lunctl"));
    command.env_remove("LUND_SERVER").args(["--server", server]).args(arguments);
    command.stdin(Stdio::null());
    command
}

pub(crate) fn lunctl(server: &str, arguments: &[&str]) -> Run {
    Run::of(&mut lunctl_command(server, arguments))
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            arguments: format!("{command:?}"),
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It succeeded and complained about nothing.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{}", self.arguments);
        self.stdout
    }

    /// It succeeded and printed JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// It failed with this status and said each of these on standard error, nothing on standard
    /// output.
    #[track_caller]
    pub(crate) fn fails(&self, status: i32, says: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        for text in says {
            assert!(self.stderr.contains(text), "{text}: {self:?}");
        }
    }
}
