//! `[[iscsi.redirects]]`: targets that have moved.

use std::collections::BTreeMap;

use job_engine::catalogue::{check_iscsi_name, default_target_name};
use serde::Deserialize;
use target_core::{Redirect, TargetAddress};
use toml::Spanned;

use super::Source;

/// Where to, by the target's whole name.
pub(crate) type Redirects = BTreeMap<String, Redirect>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    target: Spanned<String>,
    address: Spanned<String>,
    #[serde(default)]
    permanent: bool,
}

pub(super) fn redirects(source: &Source<'_>, tables: &[Table]) -> anyhow::Result<Redirects> {
    const TARGET: &str = "iscsi.redirects.target";
    let mut redirects = Redirects::new();
    for Table { target, address, permanent } in tables {
        let name = default_target_name(target.get_ref());
        let no_name = |error| format!("is `{}`, which no target can be: {error}", target.get_ref());
        check_iscsi_name(&name).map_err(|error| source.error(TARGET, target, &no_name(error)))?;
        let parsed = TargetAddress::parse(address.get_ref());
        let Some(parsed) = parsed.filter(|it| it.target_portal_group_tag.is_none()) else {
            let reason = format!("is `{}`; HOST or HOST:PORT is wanted", address.get_ref());
            return Err(source.error("iscsi.redirects.address", address, &reason));
        };
        let redirect = Redirect { address: parsed, permanent: *permanent };
        if redirects.insert(name, redirect).is_some() {
            return Err(source.error(TARGET, target, "has moved already, further up"));
        }
    }
    Ok(redirects)
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    #[test]
    fn targets_are_sent_to_hosts() {
        let text = "[[iscsi.redirects]]\ntarget = 'www'\naddress = 'host.example'\n\
                    [[iscsi.redirects]]\ntarget = 'iqn.2026-01.org.example:db'\n\
                    address = '[2001:db8::7]:3261'\npermanent = true\n";
        let redirects = load(text, &[]).unwrap().redirects;
        let www = &redirects["iqn.2026-01.io.lund:www"];
        assert_eq!((www.address.to_string().as_str(), www.permanent), ("host.example:3260", false));
        let db = &redirects["iqn.2026-01.org.example:db"];
        assert_eq!((db.address.to_string().as_str(), db.permanent), ("[2001:db8::7]:3261", true));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, says) in [
            ("target = 'a b'\naddress = 'h'", "2: `iscsi.redirects.target` is `a b`"),
            ("target = 'a'\naddress = 'h:x'", "3: `iscsi.redirects.address` is `h:x`; HOST"),
            ("target = 'a'\naddress = 'h:1,1'", "3: `iscsi.redirects.address` is `h:1,1`"),
            ("target = 'a'\nadress = 'h'", "adress"),
        ] {
            let error = load(&format!("[[iscsi.redirects]]\n{text}\n"), &[]).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(says), "{error}");
        }
        let twice = "[[iscsi.redirects]]\ntarget = 'a'\naddress = 'h'\n".repeat(2);
        let error = format!("{:#}", load(&twice, &[]).unwrap_err());
        assert!(error.starts_with("lund.toml:5: `iscsi.redirects.target`"), "{error}");
    }
}
