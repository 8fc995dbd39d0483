//! `lunctl user`, `lunctl token`, `lunctl audit`, `lunctl whoami`

use std::time::Duration;

use jiff::Timestamp;
use mgmt_api::api::{
    AuditRecord, ChangePassword, ChangeUser, CreateToken, CreateUser, NewToken, SignedIn, Token,
    User,
};
use serde_json::json;

use crate::args::{self, Life};
use crate::client::Client;
use crate::exit::Result;
use crate::output::{Output, table};
use crate::password;

pub(crate) fn user(client: &Client, output: Output, verb: args::User) -> Result<()> {
    match verb {
        args::User::Add { name, role, password } => {
            let password = password::new(password.password_file.as_deref())?;
            let user: User = client.post(&["users"], &CreateUser { name, role, password })?;
            output.value(&user, || format!("user {} is {}", user.name, user.role));
        }
        args::User::List(filter) => {
            let all: Vec<User> = client.list(&["users"], &filter)?;
            output.value(&all, || users(&all));
        }
        args::User::Show { name } => {
            let user: User = client.get(&["users", &name])?;
            output.value(&user, || users(std::slice::from_ref(&user)));
        }
        args::User::Remove { name } => {
            let () = client.delete(&["users", &name])?;
            output.value(&json!({ "user": name }), || format!("user {name} removed"));
        }
        args::User::Passwd { name: Some(name), password, .. } => {
            let password = Some(password::new(password.password_file.as_deref())?);
            let change = ChangeUser { password, ..ChangeUser::default() };
            let user: User = client.patch(&["users", &name], &change)?;
            output.value(&user, || format!("user {} has another password", user.name));
        }
        args::User::Passwd { name: None, current_password_file: file, password } => {
            let (prompt, option) = ("Password until now: ", "--current-password-file");
            let current = password::existing(file.as_deref(), prompt, option)?;
            let new = password::new(password.password_file.as_deref())?;
            let change = ChangePassword { current, new };
            let () = client.put(&["session", "password"], &change)?;
            output.value(&json!({}), || "you have another password".to_owned());
        }
        args::User::Role { name, role } => {
            let change = ChangeUser { role: Some(role), ..ChangeUser::default() };
            let user: User = client.patch(&["users", &name], &change)?;
            output.value(&user, || format!("user {} is {}", user.name, user.role));
        }
    }
    Ok(())
}

pub(crate) fn token(client: &Client, output: Output, verb: args::Token) -> Result<()> {
    match verb {
        args::Token::Create { name, role, expires } => {
            let expires = match expires {
                Life::Forever => None,
                Life::Seconds(seconds) => {
                    Some(Timestamp::now() + Duration::from_secs(seconds.into()))
                }
            };
            let request = CreateToken { name, role, expires };
            let made: NewToken = client.post(&["tokens"], &request)?;
            output.value(&made, || made.secret.0.clone());
        }
        args::Token::List(filter) => {
            let all: Vec<Token> = client.list(&["tokens"], &filter)?;
            output.value(&all, || tokens(&all));
        }
        args::Token::Show { name } => {
            let token: Token = client.get(&["tokens", &name])?;
            output.value(&token, || tokens(std::slice::from_ref(&token)));
        }
        args::Token::Revoke { name } => {
            let () = client.delete(&["tokens", &name])?;
            output.value(&json!({ "token": name }), || format!("token {name} revoked"));
        }
    }
    Ok(())
}

fn users(users: &[User]) -> String {
    let rows = users
        .iter()
        .map(|user| [user.name.clone(), user.role.to_string(), user.created.to_string()]);
    table(["USER", "ROLE", "CREATED"], rows)
}

fn tokens(tokens: &[Token]) -> String {
    let rows = tokens.iter().map(|token| {
        let expires = token.expires.map_or("never".to_owned(), |it| it.to_string());
        let expires = if token.expired { "expired".to_owned() } else { expires };
        [token.name.clone(), token.role.to_string(), expires]
    });
    table(["TOKEN", "ROLE", "EXPIRES"], rows)
}

pub(crate) fn audit(client: &Client, output: Output, limit: usize) -> Result<()> {
    let limit = limit.to_string();
    let mut records: Vec<AuditRecord> = client.get_of(&["audit"], &[("limit", &limit)])?;
    records.reverse();
    output.value(&records, || {
        let rows = records.iter().map(|record| {
            let detail = record.detail.clone().unwrap_or_default();
            [
                record.time.strftime("%F %T").to_string(),
                record.user.clone().unwrap_or_else(|| "-".to_owned()),
                record.via.clone(),
                record.address.clone(),
                record.method.clone(),
                record.object.clone(),
                record.outcome.clone(),
                detail,
            ]
        });
        table(["TIME", "USER", "VIA", "FROM", "METHOD", "OBJECT", "OUTCOME", "DETAIL"], rows)
    });
    Ok(())
}

pub(crate) fn whoami(client: &Client, output: Output) -> Result<()> {
    let me: SignedIn = client.get(&["session"])?;
    output.value(&me, || match &me.user {
        Some(user) => format!("{user}, {} (by {})", me.role, me.via),
        None => format!("nobody in particular, {}: there is no administrator yet", me.role),
    });
    Ok(())
}
