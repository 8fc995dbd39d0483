//! What is made from the command line's own description: completion and manual pages.

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::exit::Failure;

/// Prints the script that completes `lunctl` in a shell.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn completion(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "lunctl", &mut script);
    std::io::stdout().write_all(&script).map_err(|error| Failure::Other(error.to_string()))
}

/// Writes a manual page for `lunctl` and one for each of its commands.
///
/// # Errors
/// The directory is not there, or cannot be written to.
pub(crate) fn pages(directory: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Arguments::command(), directory).map_err(|error| {
        Failure::Other(format!("cannot write manual pages to {}: {error}", directory.display()))
    })
}
