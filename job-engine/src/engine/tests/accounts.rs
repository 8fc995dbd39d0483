use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::catalogue::{Role, SecretHash};

fn hash(text: &str) -> SecretHash {
    SecretHash(text.to_owned())
}

fn create(name: &str, role: Role) -> AccountChange {
    AccountChange::CreateUser { name: name.to_owned(), role, password: hash("$1") }
}

fn token(name: &str, expires: Option<Timestamp>) -> AccountChange {
    let (name, secret) = (name.to_owned(), hash("abc"));
    AccountChange::CreateToken { name, role: Role::Viewer, secret, expires }
}

fn names(engine: &Engine) -> Vec<String> {
    engine.users().iter().map(|user| user.name.clone()).collect()
}

#[test]
fn users_and_tokens_outlive_a_restart() {
    let mut bench = Bench::new();
    assert!(!bench.has_administrator());
    bench.change_accounts(create("root", Role::Administrator)).unwrap();
    bench.change_accounts(create("guest", Role::Viewer)).unwrap();
    let (name, password) = ("guest".to_owned(), hash("$2"));
    bench.change_accounts(AccountChange::SetPassword { name, password }).unwrap();
    let (name, role) = ("guest".to_owned(), Role::Operator);
    bench.change_accounts(AccountChange::SetRole { name, role }).unwrap();
    bench.change_accounts(token("backup", None)).unwrap();
    bench.restart();
    let guest = bench.user("guest").unwrap();
    assert_eq!((guest.role, &guest.password), (Role::Operator, &hash("$2")));
    assert_eq!(names(&bench), ["guest", "root"]);
    assert_eq!(bench.tokens()[0].name, "backup");
    assert!(bench.has_administrator());
    bench.change_accounts(AccountChange::DeleteToken { name: "backup".to_owned() }).unwrap();
    bench.change_accounts(AccountChange::DeleteUser { name: "guest".to_owned() }).unwrap();
    bench.restart();
    assert_eq!((names(&bench), bench.tokens().len()), (vec!["root".to_owned()], 0));
}

#[test]
fn the_last_administrator_stays() {
    let bench = Bench::new();
    bench.change_accounts(create("root", Role::Administrator)).unwrap();
    bench.change_accounts(create("guest", Role::Operator)).unwrap();
    let delete = |name: &str| AccountChange::DeleteUser { name: name.to_owned() };
    let role = |name: &str, role| AccountChange::SetRole { name: name.to_owned(), role };
    assert_eq!(refusal(bench.change_accounts(delete("root"))), "ISCT-ACC-001");
    assert_eq!(refusal(bench.change_accounts(role("root", Role::Operator))), "ISCT-ACC-001");
    bench.change_accounts(role("root", Role::Administrator)).unwrap();
    bench.change_accounts(role("guest", Role::Administrator)).unwrap();
    bench.change_accounts(delete("root")).unwrap();
    assert_eq!(refusal(bench.change_accounts(delete("guest"))), "ISCT-ACC-001");
}

#[test]
fn what_cannot_be_is_refused() {
    let bench = Bench::new();
    bench.change_accounts(create("root", Role::Administrator)).unwrap();
    let refused = |change| refusal(bench.change_accounts(change));
    assert_eq!(refused(create("root", Role::Viewer)), "ISCT-CFG-002");
    assert_eq!(refused(create("a b", Role::Viewer)), "ISCT-CFG-004");
    assert_eq!(refused(AccountChange::DeleteUser { name: "x".to_owned() }), "ISCT-CFG-005");
    assert_eq!(refused(AccountChange::DeleteToken { name: "x".to_owned() }), "ISCT-CFG-005");
    let (name, password) = ("x".to_owned(), hash("$"));
    assert_eq!(refused(AccountChange::SetPassword { name, password }), "ISCT-CFG-005");
    assert_eq!(refused(token("t", Some(start()))), "ISCT-CFG-007");
    bench.change_accounts(token("t", None)).unwrap();
    assert_eq!(refused(token("t", None)), "ISCT-CFG-002");
}

#[test]
fn the_journal_brings_users_back_and_nobody_else_can_read_their_hashes() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(EngineConfig::new(directory.path())).unwrap();
    engine.change_accounts(create("root", Role::Administrator)).unwrap();
    engine.change_accounts(token("t", None)).unwrap();
    engine.shutdown();
    let mode = |name: &str| {
        std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("journal.jsonl"), mode("db")), (0o600, 0o700));
    drop(engine);
    std::fs::remove_dir_all(directory.path().join("db")).unwrap();
    let engine = Engine::open(EngineConfig::new(directory.path())).unwrap();
    assert_eq!(engine.user("root").unwrap().password, hash("$1"));
    assert_eq!(engine.tokens().len(), 1);
}
