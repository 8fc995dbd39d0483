//! Passwords and tokens: from files, standard input or the terminal, never from the command line.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::path::Path;

use mgmt_api::api::Secret;

use crate::exit::{Failure, Result};

/// Longer than any password or token.
const MOST: u64 = 4096;

/// The first line of a file, or of standard input for `-`.
pub(crate) fn from_file(path: &Path) -> Result<Secret> {
    let cannot = |error| Failure::Usage(format!("{} cannot be read: {error}", path.display()));
    let mut line = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MOST).read_line(&mut line)
    } else {
        let file = File::open(path).map_err(cannot)?;
        BufReader::new(file.take(MOST)).read_line(&mut line)
    };
    let secret = Secret(line);
    read.map_err(cannot)?;
    let text = secret.0.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Failure::Usage(format!("{} holds nothing in its first line", path.display())));
    }
    Ok(Secret(text.to_owned()))
}

/// From a file if one is named, else from the terminal.
pub(crate) fn existing(file: Option<&Path>, prompt: &str, option: &str) -> Result<Secret> {
    match file {
        Some(path) => from_file(path),
        None => ask(prompt, option),
    }
}

/// A password that is to be: the terminal asks twice.
pub(crate) fn new(file: Option<&Path>) -> Result<Secret> {
    let Some(path) = file else {
        let first = ask("New password: ", "--password-file")?;
        if ask("Once more: ", "--password-file")? != first {
            return Err(Failure::Usage("the two passwords are not the same".to_owned()));
        }
        return Ok(first);
    };
    from_file(path)
}

fn ask(prompt: &str, option: &str) -> Result<Secret> {
    if !std::io::stdin().is_terminal() {
        let message = format!("there is no terminal to ask for a password: use {option}");
        return Err(Failure::Usage(message));
    }
    let given = rpassword::prompt_password(prompt);
    given.map(Secret).map_err(|error| Failure::Other(format!("the terminal: {error}")))
}
