//! The configuration as a file.

use std::path::PathBuf;

use clap::Args;

/// A file that says what is wanted.
#[derive(Debug, Args)]
pub(crate) struct Declared {
    /// The file, TOML as `lunctl export` writes it; `-`: standard input
    ///
    /// A list that it has is the whole list: what the list does not name is taken away, but for
    /// disks, which are never deleted. What it has no list of stays as it is. With a line
    /// `generation` it is refused if somebody has changed anything since.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Targets that no CHAP account protects any more may be open to everybody from then on
    #[arg(long)]
    pub(crate) open: bool,
}
