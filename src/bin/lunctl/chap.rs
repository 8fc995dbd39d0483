//! `lunctl chap`

use mgmt_api::api::{ChapAccount, SetChapAccount};
use serde_json::json;

use crate::args;
use crate::client::Client;
use crate::exit::Result;
use crate::output::{Output, table};
use crate::password;

pub(crate) fn run(client: &Client, output: Output, verb: args::Chap) -> Result<()> {
    match verb {
        args::Chap::List => {
            let accounts: Vec<ChapAccount> = client.get(&["chap-accounts"])?;
            output.value(&accounts, || list(&accounts));
        }
        args::Chap::Show { user } => {
            let account: ChapAccount = client.get(&["chap-accounts", &user])?;
            output.value(&account, || list(std::slice::from_ref(&account)));
        }
        args::Chap::Set { user, secret_file, targets, initiators, open } => {
            let secret = secret_file.as_deref().map(password::from_file).transpose()?;
            let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
            let (targets, initiators) = (some(targets), some(initiators));
            let request = SetChapAccount { secret, targets, initiators, open };
            let account: ChapAccount = client.put(&["chap-accounts", &user], &request)?;
            output.value(&account, || list(std::slice::from_ref(&account)));
        }
        args::Chap::Delete { user, open } => {
            let open = open.then_some("true");
            let () = client.delete_of(&["chap-accounts", &user], &[("open", open)])?;
            output.value(&json!({ "user": user }), || format!("account {user} deleted"));
        }
    }
    Ok(())
}

fn list(accounts: &[ChapAccount]) -> String {
    let rows = accounts.iter().map(|account| {
        let some = |list: &Option<Vec<String>>| {
            list.as_ref().map_or("all".to_owned(), |names| names.join(" "))
        };
        let targets = if account.discovery_only {
            "discovery only".to_owned()
        } else {
            some(&account.targets)
        };
        let source = if account.configured { "configuration" } else { "lunctl, REST" };
        [account.user.clone(), targets, some(&account.initiators), source.to_owned()]
    });
    table(["USER", "TARGETS", "INITIATORS", "FROM"], rows)
}
