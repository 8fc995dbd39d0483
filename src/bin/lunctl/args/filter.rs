//! What is wanted of a list.

use clap::Args;

/// Which elements are listed.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Only those that have this value, as in --filter state=Running; of several, all must hold
    #[arg(long = "filter", value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) filters: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted, as in state=Running")?;
    Ok((name.to_owned(), value.to_owned()))
}
