//! `iscsi.listen` and `[[iscsi.portal_groups]]`: where initiators connect, and which targets they
//! reach there.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use job_engine::AccessState;
use job_engine::catalogue::{check_iscsi_name, default_target_name};
use scsi::AccessMethods;
use serde::Deserialize;
use toml::Spanned;

use super::{ISCSI_PORT, Source};

/// The group of `iscsi.listen` and `--iscsi-listen`.
const FIRST: u16 = 1;

/// Portals through which the same ports of the targets are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortalGroup {
    /// Target Portal Group Tag.
    pub(crate) tag: u16,
    pub(crate) listen: Vec<SocketAddr>,
    /// Whole names of the targets that are reached there; all of them without it.
    pub(crate) targets: Option<BTreeSet<String>>,
    /// Access state of its ports, until another one is set.
    pub(crate) state: AccessState,
    /// PREF.
    pub(crate) preferred: bool,
}

impl PortalGroup {
    /// For all targets, active/optimized.
    fn new(tag: u16, listen: Vec<SocketAddr>) -> Self {
        Self { tag, listen, targets: None, state: AccessState::default(), preferred: false }
    }

    pub(crate) fn serves(&self, target: &str) -> bool {
        self.targets.as_ref().is_none_or(|targets| targets.contains(target))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    tag: Spanned<u16>,
    listen: Spanned<Vec<SocketAddr>>,
    targets: Option<Vec<Spanned<String>>>,
    state: Option<Spanned<AccessState>>,
    preferred: Option<Spanned<bool>>,
}

/// All groups, in the order of their tags.
pub(super) fn portal_groups(
    source: &Source<'_>,
    access_methods: AccessMethods,
    listen: Option<&Spanned<Vec<SocketAddr>>>,
    tables: &[Table],
    option: &[SocketAddr],
) -> anyhow::Result<Vec<PortalGroup>> {
    const TAG: &str = "iscsi.portal_groups.tag";
    let mut groups: Vec<PortalGroup> = Vec::new();
    for table in tables {
        let tag = *table.tag.get_ref();
        if tag == 0 {
            return Err(source.error(TAG, &table.tag, "is 0; it must lie between 1 and 65535"));
        }
        if groups.iter().any(|group| group.tag == tag) {
            let reason = format!("is {tag}, as it is further up; groups differ in their tags");
            return Err(source.error(TAG, &table.tag, &reason));
        }
        if tag == FIRST
            && let Some(listen) = listen
        {
            let reason = format!("is the group with tag {FIRST}, and so is a table of its own");
            return Err(source.error("iscsi.listen", listen, &reason));
        }
        let listen = addresses(source, "iscsi.portal_groups.listen", &table.listen, &groups)?;
        let targets = match &table.targets {
            Some(names) => Some(targets(source, names)?),
            None => None,
        };
        if !access_methods.any() {
            let reason = "is set, and `iscsi.alua` is \"none\"";
            if let Some(state) = &table.state {
                return Err(source.error("iscsi.portal_groups.state", state, reason));
            }
            if let Some(preferred) = &table.preferred {
                return Err(source.error("iscsi.portal_groups.preferred", preferred, reason));
            }
        }
        let state = table.state.as_ref().map_or_else(AccessState::default, |it| *it.get_ref());
        let preferred = table.preferred.as_ref().is_some_and(|it| *it.get_ref());
        groups.push(PortalGroup { targets, state, preferred, ..PortalGroup::new(tag, listen) });
    }
    if !groups.iter().any(|group| group.tag == FIRST) {
        let listen = match listen {
            Some(listen) => addresses(source, "iscsi.listen", listen, &groups)?,
            None => vec![SocketAddr::from(([127, 0, 0, 1], ISCSI_PORT))],
        };
        groups.push(PortalGroup::new(FIRST, listen));
    }
    groups.sort_by_key(|group| group.tag);
    if let Some(group) = groups.first_mut().filter(|_| !option.is_empty()) {
        group.listen = option.to_vec();
    }
    Ok(groups)
}

fn addresses(
    source: &Source<'_>,
    key: &str,
    listen: &Spanned<Vec<SocketAddr>>,
    groups: &[PortalGroup],
) -> anyhow::Result<Vec<SocketAddr>> {
    let wanted = listen.get_ref();
    if wanted.is_empty() {
        return Err(source.error(key, listen, "names no address"));
    }
    for (index, address) in wanted.iter().enumerate().filter(|(_, address)| address.port() != 0) {
        let other = groups.iter().find(|group| group.listen.contains(address));
        if let Some(other) = other {
            let reason = format!("has {address}, which is in the group with tag {}", other.tag);
            return Err(source.error(key, listen, &reason));
        }
        if wanted.iter().skip(index + 1).any(|later| later == address) {
            return Err(source.error(key, listen, &format!("has {address} twice")));
        }
    }
    Ok(wanted.clone())
}

fn targets(source: &Source<'_>, names: &[Spanned<String>]) -> anyhow::Result<BTreeSet<String>> {
    let mut targets = BTreeSet::new();
    for given in names {
        let name = default_target_name(given.get_ref());
        check_iscsi_name(&name).map_err(|error| {
            let reason = format!("has `{}`, which no target can be: {error}", given.get_ref());
            source.error("iscsi.portal_groups.targets", given, &reason)
        })?;
        targets.insert(name);
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    fn error(text: &str) -> String {
        format!("{:#}", load(text, &[]).unwrap_err())
    }

    #[test]
    fn the_first_group_is_that_of_listen_unless_it_has_a_table() {
        let text = "[iscsi]\nlisten = ['192.0.2.1:3260']\n[[iscsi.portal_groups]]\ntag = 7\n\
                    listen = ['[2001:db8::1]:3260', '192.0.2.2:3260']\ntargets = ['www']\n";
        let groups = load(text, &[]).unwrap().portal_groups;
        assert_eq!(groups.iter().map(|group| group.tag).collect::<Vec<_>>(), [1, 7]);
        assert_eq!(groups[1].listen.len(), 2);
        assert!(groups[0].serves("iqn.2026-01.io.lund:db"));
        assert!(groups[1].serves("iqn.2026-01.io.lund:www"));
        assert!(!groups[1].serves("iqn.2026-01.io.lund:db"));
        let groups = load(text, &["--iscsi-listen", "127.0.0.1:9"]).unwrap().portal_groups;
        assert_eq!(groups[0].listen, ["127.0.0.1:9".parse().unwrap()]);
        let text = "[[iscsi.portal_groups]]\ntag = 1\nlisten = ['192.0.2.2:1']\ntargets = []\n";
        let groups = load(text, &[]).unwrap().portal_groups;
        assert_eq!((groups.len(), groups[0].serves("iqn.2026-01.io.lund:db")), (1, false));
    }

    #[test]
    fn a_group_has_an_access_state_and_hosts_are_told_how_it_can_change() {
        let config = load("", &[]).unwrap();
        let [group] = &config.portal_groups[..] else { panic!("{:?}", config.portal_groups) };
        assert_eq!((group.state, group.preferred), (AccessState::ActiveOptimized, false));
        assert_eq!(config.access_methods, AccessMethods { implicit: true, explicit: false });
        let text = "[iscsi]\nalua = 'both'\n[[iscsi.portal_groups]]\ntag = 2\n\
                    listen = ['192.0.2.1:1']\nstate = 'active-non-optimized'\npreferred = true\n";
        let config = load(text, &[]).unwrap();
        let group = &config.portal_groups[1];
        assert_eq!((group.state, group.preferred), (AccessState::ActiveNonOptimized, true));
        assert_eq!(config.access_methods, AccessMethods { implicit: true, explicit: true });
        let wrong = error("[iscsi]\nalua = 'yes'\n");
        assert!(wrong.contains("line 2") && wrong.contains("implicit"), "{wrong}");
    }

    #[test]
    fn groups_that_contradict_each_other_are_refused() {
        let group = |tag: u32, listen: &str| {
            format!("[[iscsi.portal_groups]]\ntag = {tag}\nlisten = [{listen}]\n")
        };
        let twice = error(&(group(2, "'192.0.2.1:1'") + &group(2, "'192.0.2.1:2'")));
        assert!(twice.starts_with("lund.toml:5: `iscsi.portal_groups.tag` is 2"), "{twice}");
        let shared = error(&(group(2, "'192.0.2.1:1'") + &group(3, "'192.0.2.1:1'")));
        assert!(shared.starts_with("lund.toml:6: `iscsi.portal_groups.listen` has"), "{shared}");
        let zero = error(&group(0, "'192.0.2.1:1'"));
        assert!(zero.contains("between 1 and 65535"), "{zero}");
        let large = error(&group(65536, "'192.0.2.1:1'"));
        assert!(large.contains("65536"), "{large}");
        let none = error(&group(2, ""));
        assert!(none.contains("names no address"), "{none}");
        let both = format!("[iscsi]\nlisten = ['192.0.2.9:1']\n{}", group(1, "'192.0.2.1:1'"));
        assert!(error(&both).starts_with("lund.toml:2: `iscsi.listen` is the group with tag 1"));
        let same = error(&group(2, "'192.0.2.1:1', '192.0.2.1:1'"));
        assert!(same.contains("192.0.2.1:1 twice"), "{same}");
        let state = error(&(group(2, "'192.0.2.1:1'") + "state = 'broken'\n"));
        assert!(state.contains("line 4") && state.contains("active-non-optimized"), "{state}");
        let off = "[iscsi]\nalua = 'none'\n".to_owned() + &group(2, "'192.0.2.1:1'");
        for (key, value) in [("state", "'standby'"), ("preferred", "false")] {
            let text = error(&format!("{off}{key} = {value}\n"));
            let start = format!("lund.toml:6: `iscsi.portal_groups.{key}` is set");
            assert!(text.starts_with(&start), "{text}");
        }
        let name = error(&(group(2, "'192.0.2.1:1'") + "targets = ['a b']\n"));
        assert!(name.starts_with("lund.toml:4: `iscsi.portal_groups.targets` has `a b`"), "{name}");
    }
}
