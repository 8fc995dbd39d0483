//! `[isns]`: the server that initiators ask for targets.

use serde::Deserialize;
use toml::Spanned;

use super::Source;

/// An iSNS server, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Isns {
    /// `HOST:PORT`.
    pub(crate) server: String,
    /// Entity Identifier.
    pub(crate) entity: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    server: Spanned<String>,
    entity: Option<Spanned<String>>,
}

pub(super) fn isns(source: &Source<'_>, table: Option<&Table>) -> anyhow::Result<Option<Isns>> {
    let Some(Table { server, entity }) = table else { return Ok(None) };
    let given = server.get_ref();
    let port = given.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    let whole = match port {
        // An IPv6 address without a port has colons too, and brackets around it.
        Some((host, Ok(1..)))
            if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) =>
        {
            given.clone()
        }
        None if !given.is_empty() => format!("{given}:{}", isns::message::PORT),
        _ if given.starts_with('[') && given.ends_with(']') => {
            format!("{given}:{}", isns::message::PORT)
        }
        _ => {
            let reason = format!("is `{given}`; HOST or HOST:PORT is wanted");
            return Err(source.error("isns.server", server, &reason));
        }
    };
    let entity = match entity {
        // RFC 4171 §6.2.1.
        Some(entity) if !(1..=255).contains(&entity.get_ref().len()) => {
            return Err(source.error("isns.entity", entity, "must have 1 to 255 bytes"));
        }
        Some(entity) => entity.get_ref().clone(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    Ok(Some(Isns { server: whole, entity }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    #[test]
    fn a_server_is_a_host_with_or_without_a_port() {
        let server = |text: &str| {
            let text = format!("[isns]\nserver = '{text}'\nentity = 'e'\n");
            load(&text, &[]).map(|config| config.isns.unwrap().server)
        };
        for (given, whole) in [
            ("isns.example", "isns.example:3205"),
            ("192.0.2.1:77", "192.0.2.1:77"),
            ("[2001:db8::1]", "[2001:db8::1]:3205"),
            ("[2001:db8::1]:77", "[2001:db8::1]:77"),
        ] {
            assert_eq!(server(given).unwrap(), whole);
        }
        for bad in ["", ":77", "host:", "host:0", "host:x", "2001:db8::1"] {
            let text = format!("{:#}", server(bad).unwrap_err());
            assert!(text.starts_with("lund.toml:2: `isns.server` is"), "{bad}: {text}");
        }
        let config = load("[isns]\nserver = 'a'\n", &[]).unwrap();
        assert!(!config.isns.unwrap().entity.is_empty());
        assert!(load("", &[]).unwrap().isns.is_none());
    }
}
