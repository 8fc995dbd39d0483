use std::os::unix::fs::PermissionsExt as _;

use target_core::{AuthPolicy, ChapAlgorithm, ChapPolicy};
use tempfile::TempDir;

use super::Access;
use crate::config::tests::load;

/// Secret files `a` to `c`, `again` with the secret of `a`, `open` that others can read, `short`.
fn secrets() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, secret, mode) in [
        ("a", "secret number a\n", 0o600),
        ("b", "secret number b", 0o600),
        ("c", "secret number c\n", 0o400),
        ("again", "secret number a", 0o600),
        ("open", "secret number d", 0o640),
        ("short", "11 bytes...\n", 0o600),
    ] {
        let path = directory.path().join(name);
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    directory
}

/// Loads a file in which `@` stands for the directory of the secrets.
fn read(text: &str) -> Result<Access, String> {
    let directory = secrets();
    let text = text.replace('@', directory.path().to_str().unwrap());
    match load(&text, &[]) {
        Ok(config) => Ok(config.access),
        Err(error) => {
            let error = format!("{error:#}");
            assert!(!error.contains("secret number"), "{error}");
            Err(error.replace(directory.path().to_str().unwrap(), "@"))
        }
    }
}

#[track_caller]
fn refused(text: &str, begin: &str, part: &str) {
    let error = read(text).unwrap_err();
    assert!(error.starts_with(&format!("lund.toml:{begin}")) && error.contains(part), "{error}");
}

/// The policy, which must be CHAP.
fn chap(policy: AuthPolicy) -> ChapPolicy {
    let AuthPolicy::Chap(policy) = policy else { panic!("anybody gets in") };
    policy
}

fn names(policy: AuthPolicy) -> Vec<String> {
    chap(policy).accounts.into_iter().map(|account| account.name).collect()
}

const THREE: &str = "
[iscsi.chap]
mutual_user = 'target'
mutual_secret_file = '@/c'
[[iscsi.chap.accounts]]
user = 'everywhere'
secret_file = '@/a'
[[iscsi.chap.accounts]]
user = 'somewhere'
secret_file = '@/b'
targets = ['Short', 'iqn.2001-04.com.example:Disk']
";

#[test]
fn without_the_table_nobody_needs_a_secret() {
    let access = read("[iscsi]\nmax_sessions = 3\n").unwrap();
    assert!(matches!(access.target("iqn.2026-01.io.lund:x", Vec::new()), AuthPolicy::None));
    assert!(matches!(access.discovery(Vec::new()), AuthPolicy::None));
}

#[test]
fn the_two_keys_alone_are_an_account_for_everything() {
    let access = read("[iscsi.chap]\nuser = 'hosts'\nsecret_file = '@/a'\n").unwrap();
    for policy in [access.target("iqn.2026-01.io.lund:x", Vec::new()), access.discovery(Vec::new())]
    {
        let policy = chap(policy);
        assert_eq!((policy.accounts.len(), policy.accounts[0].name.as_str()), (1, "hosts"));
        assert!(policy.accounts[0].secret.same_as(&super::Secret::new(b"secret number a")));
        assert!(policy.mutual.is_none());
        for algorithm in ChapAlgorithm::STRONGEST_FIRST {
            assert!(policy.algorithms.contains(algorithm));
        }
    }
}

#[test]
fn an_account_is_for_its_targets_only_and_for_discovery() {
    let access = read(THREE).unwrap();
    let both = ["everywhere", "somewhere"];
    assert_eq!(names(access.discovery(Vec::new())), both);
    for name in ["iqn.2026-01.io.lund:short", "iqn.2001-04.com.example:disk"] {
        assert_eq!(names(access.target(name, Vec::new())), both, "{name}");
    }
    for name in ["iqn.2026-01.io.lund:other", "iqn.2026-01.io.lund:short2", "short"] {
        assert_eq!(names(access.target(name, Vec::new())), ["everywhere"], "{name}");
    }
    assert_eq!(chap(access.discovery(Vec::new())).mutual.unwrap().name, "target");
    assert!(!format!("{access:?}").contains("secret number"));
}

#[test]
fn both_kinds_of_accounts_go_together() {
    let text = "[iscsi.chap]\nuser = 'one'\nsecret_file = '@/a'\n\
                [[iscsi.chap.accounts]]\nuser = 'two'\nsecret_file = '@/b'\n";
    assert_eq!(names(read(text).unwrap().discovery(Vec::new())), ["one", "two"]);
}

#[test]
fn a_target_without_account_lets_nobody_in() {
    let text = "[[iscsi.chap.accounts]]\nuser = 'one'\nsecret_file = '@/a'\ntargets = ['x']\n";
    let access = read(text).unwrap();
    assert_eq!(names(access.target("iqn.2026-01.io.lund:y", Vec::new())), Vec::<String>::new());
}

#[test]
fn discovery_can_have_accounts_of_its_own() {
    let own = "[[iscsi.chap.discovery_accounts]]\nuser = 'everywhere'\nsecret_file = '@/";
    let access = read(&format!("{THREE}{own}again'\ninitiators = ['iqn.2001-04.com.example:*']"));
    let policy = chap(access.unwrap().discovery(Vec::new()));
    assert_eq!((policy.accounts.len(), policy.accounts[0].name.as_str()), (1, "everywhere"));
    assert!(policy.accounts[0].initiators.is_some());
    assert_eq!(policy.mutual.unwrap().name, "target");
    let text = format!("{THREE}{own}again'\n{own}b'\n");
    refused(&text, "16: `iscsi.chap.discovery_accounts.user`", "another account");
    refused(&format!("{THREE}{own}c'\n"), "4: `iscsi.chap.mutual_secret_file`", "`everywhere`");
    refused(&format!("{THREE}{own}open'\n"), "14: `iscsi.chap.discovery_accounts.secret", "0600");
    let text = THREE.replace("[iscsi.chap]", "[iscsi.chap]\ndiscovery = false");
    refused(&format!("{text}{own}b'\n"), "3: `iscsi.chap.discovery`", "discovery_accounts");
    // Targets still need accounts.
    refused(&format!("{own}b'\n"), "1: `iscsi.chap` has no account", "");
}

#[test]
fn discovery_can_be_left_open() {
    let text = THREE.replace("[iscsi.chap]", "[iscsi.chap]\ndiscovery = false");
    let access = read(&text).unwrap();
    assert!(matches!(access.discovery(Vec::new()), AuthPolicy::None));
    assert_eq!(names(access.target("iqn.2026-01.io.lund:x", Vec::new())), ["everywhere"]);
    let text = THREE.replace("[iscsi.chap]", "[iscsi.chap]\ndiscovery = true");
    assert_eq!(names(read(&text).unwrap().discovery(Vec::new())).len(), 2);
}

#[test]
fn only_the_algorithms_that_are_named_are_allowed() {
    let text = THREE.replace("[iscsi.chap]", "[iscsi.chap]\nalgorithms = ['sha256', 'sha3-256']");
    let policy = chap(read(&text).unwrap().target("iqn.2026-01.io.lund:x", Vec::new()));
    let allowed = ChapAlgorithm::STRONGEST_FIRST.map(|it| policy.algorithms.contains(it));
    assert_eq!(allowed, [true, true, false, false]);
}

#[test]
fn algorithms_that_do_not_exist_are_named() {
    let text = "[iscsi.chap]\nuser = 'x'\nsecret_file = '@/a'\nalgorithms = ['md5',\n'sha512']\n";
    let known = "names `sha512`; known are sha3-256, sha256, sha1, md5";
    refused(text, "5: `iscsi.chap.algorithms`", known);
    let text = "[iscsi.chap]\nuser = 'x'\nsecret_file = '@/a'\nalgorithms = []\n";
    refused(text, "4: `iscsi.chap.algorithms`", "is empty");
}

#[test]
fn the_same_secret_in_both_directions_is_refused() {
    let text = "[iscsi.chap]\nuser = 'hosts'\nsecret_file = '@/a'\n\
                mutual_user = 'target'\nmutual_secret_file = '@/again'\n";
    refused(text, "5: `iscsi.chap.mutual_secret_file`", "same secret as the account of `hosts`");
    let text = THREE.replace("@/c", "@/b");
    refused(
        &text,
        "4: `iscsi.chap.mutual_secret_file`",
        "same secret as the account of `somewhere`",
    );
}

#[test]
fn half_an_account_is_refused() {
    refused("[iscsi.chap]\nuser = 'x'\n", "2: `iscsi.chap.user`", "needs secret_file");
    refused("[iscsi.chap]\nsecret_file = '@/a'\n", "2: `iscsi.chap.secret_file`", "needs user");
    let one = "[iscsi.chap]\nuser = 'x'\nsecret_file = '@/a'\n";
    let text = format!("{one}mutual_user = 'y'\n");
    refused(&text, "4: `iscsi.chap.mutual_user`", "needs mutual_secret_file");
    let text = format!("{one}mutual_secret_file = '@/b'\n");
    refused(&text, "4: `iscsi.chap.mutual_secret_file`", "needs mutual_user");
    for text in ["[[iscsi.chap.accounts]]\nuser = 'x'\n", "[[iscsi.chap.accounts]]\nusr = 'x'\n"] {
        assert!(read(text).unwrap_err().contains("line"), "{text}");
    }
}

#[test]
fn a_table_without_any_account_is_refused() {
    refused("\n[iscsi.chap]\n", "2: `iscsi.chap` has no account", "");
    refused("[iscsi.chap]\ndiscovery = false\n", "1: `iscsi.chap` has no account", "");
    refused("[iscsi.chap]\naccounts = []\n", "1: `iscsi.chap` has no account", "");
}

#[test]
fn two_accounts_of_one_user_are_refused() {
    let text = THREE.replace("somewhere", "everywhere");
    refused(&text, "9: `iscsi.chap.accounts.user`", "each has its own name");
    let text = "[iscsi.chap]\nuser = 'x'\nsecret_file = '@/a'\n\
                [[iscsi.chap.accounts]]\nuser = 'x'\nsecret_file = '@/b'\n";
    refused(text, "5: `iscsi.chap.accounts.user`", "each has its own name");
}

#[test]
fn what_no_target_is_called_is_refused() {
    let with = |list: &str| {
        format!("[[iscsi.chap.accounts]]\nuser = 'x'\nsecret_file = '@/a'\ntargets = {list}\n")
    };
    let key = "`iscsi.chap.accounts.targets`";
    refused(&with("[]"), &format!("4: {key}"), "names no target");
    refused(&with("['x',\n'a b']"), &format!("5: {key}"), "names `a b`");
    refused(&with("['iqn.disk']"), &format!("4: {key}"), "names `iqn.disk`");
}

#[test]
fn a_secret_that_is_none_is_refused() {
    for (file, part) in [("open", "others can read"), ("short", "of 11 bytes"), ("none", "@/none")]
    {
        let key = "3: `iscsi.chap.accounts.secret_file`";
        let text = format!("[[iscsi.chap.accounts]]\nuser = 'x'\nsecret_file = '@/{file}'\n");
        refused(&text, key, part);
    }
    for user in ["", "a\\nb"] {
        let text = format!("[iscsi.chap]\nuser = \"{user}\"\nsecret_file = '@/a'\n");
        refused(&text, "2: `iscsi.chap.user`", "printable");
    }
}

#[test]
fn an_account_may_be_for_some_initiators_only() {
    let with = |list: &str| {
        format!("[[iscsi.chap.accounts]]\nuser = 'x'\nsecret_file = '@/a'\ninitiators = {list}\n")
    };
    let key = "4: `iscsi.chap.accounts.initiators`";
    refused(&with("['host']"), key, "'host'");
    refused(&with("['iqn.2001-04.com.example:a b*']"), key, "a b*");
}
