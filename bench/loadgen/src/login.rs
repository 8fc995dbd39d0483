//! Login: the security stage without authentication, then the operational parameters.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

use crate::link::{Link, MAX_RECV_SEGMENT};
use crate::pdu::{self, Numbers, be32, byte, flag, opcode};

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;
/// A target that needs more turns than this negotiates in circles.
const MAX_TURNS: usize = 10;
const OUR_MAX_BURST: u32 = 1024 * 1024;
const OUR_FIRST_BURST: u32 = 256 * 1024;

/// What both sides agreed on, as far as it matters for writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Params {
    /// Largest data segment the target accepts.
    pub(crate) max_segment: u32,
    pub(crate) max_burst: u32,
    pub(crate) first_burst: u32,
    pub(crate) initial_r2t: bool,
    pub(crate) immediate_data: bool,
}

/// The numbers a session begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) params: Params,
    pub(crate) numbers: Numbers,
    pub(crate) max_cmd_sn: u32,
}

/// Who logs in to what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    pub(crate) initiator: &'a str,
    pub(crate) target: &'a str,
    pub(crate) isid: [u8; 6],
    pub(crate) digests: bool,
}

/// Takes a new connection to the full feature phase.
pub(crate) fn login(link: &mut Link, names: &Names<'_>) -> Result<Started> {
    let mut answers = HashMap::new();
    let mut numbers = Numbers { cmd_sn: 1, exp_stat_sn: 0 };
    let mut stage = SECURITY;
    let mut text = keys(&[
        ("InitiatorName", names.initiator),
        ("SessionType", "Normal"),
        ("TargetName", names.target),
        ("AuthMethod", "None"),
    ]);
    for _ in 0..MAX_TURNS {
        let next = if stage == SECURITY { OPERATIONAL } else { FULL_FEATURE };
        let len = u32::try_from(text.len())?;
        link.send_small(&pdu::login(names.isid, stage, next, len, numbers), text.as_bytes());
        link.flush(&[])?;
        text.clear();
        let reply = loop {
            if let Some(reply) = link.next()? {
                break reply;
            }
            link.receive()?;
        };
        let header = &reply.header;
        if pdu::opcode_of(header) != opcode::LOGIN_RESPONSE {
            bail!("login was answered with opcode {:#04x}", pdu::opcode_of(header));
        }
        if byte(header, 36) != 0 {
            bail!(
                "login to {} was refused: status {:02x}{:02x}",
                names.target,
                byte(header, 36),
                byte(header, 37)
            );
        }
        numbers.exp_stat_sn = be32(header, 24).wrapping_add(1);
        collect(link.data(&reply), &mut answers)?;
        if byte(header, 1) & flag::FINAL == 0 {
            continue;
        }
        stage = byte(header, 1) & 3;
        if stage == FULL_FEATURE {
            let params = agreed(&answers)?;
            check_digests(&answers, names.digests)?;
            link.header_digest = names.digests;
            link.data_digest = names.digests;
            return Ok(Started { params, numbers, max_cmd_sn: be32(header, 32) });
        }
        text = operational(names.digests);
    }
    bail!("login to {} did not come to an end", names.target)
}

fn keys(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={value}\0")).collect()
}

fn operational(digests: bool) -> String {
    let digest = if digests { "CRC32C" } else { "None" };
    keys(&[
        ("HeaderDigest", digest),
        ("DataDigest", digest),
        ("MaxRecvDataSegmentLength", &MAX_RECV_SEGMENT.to_string()),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", &OUR_MAX_BURST.to_string()),
        ("FirstBurstLength", &OUR_FIRST_BURST.to_string()),
        ("MaxConnections", "1"),
        ("MaxOutstandingR2T", "1"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "0"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("ErrorRecoveryLevel", "0"),
    ])
}

fn collect(data: &[u8], answers: &mut HashMap<String, String>) -> Result<()> {
    for pair in data.split(|b| *b == 0).filter(|p| !p.is_empty()) {
        let pair = std::str::from_utf8(pair).context("the target's login text is not text")?;
        let (key, value) = pair.split_once('=').context("the target's login text has no '='")?;
        answers.insert(key.to_owned(), value.to_owned());
    }
    Ok(())
}

fn agreed(answers: &HashMap<String, String>) -> Result<Params> {
    let number = |key: &str, default: u32| match answers.get(key) {
        Some(v) => v.parse().with_context(|| format!("the target answered {key}={v}")),
        None => Ok(default),
    };
    let max_burst = number("MaxBurstLength", OUR_MAX_BURST)?.min(OUR_MAX_BURST);
    let params = Params {
        // Data segments go out in whole words; the keys' defaults are the RFC's.
        max_segment: number("MaxRecvDataSegmentLength", 8192)? & !3,
        max_burst: max_burst & !3,
        first_burst: number("FirstBurstLength", OUR_FIRST_BURST)?.min(OUR_FIRST_BURST) & !3,
        initial_r2t: answers.get("InitialR2T").is_some_and(|v| v == "Yes"),
        immediate_data: answers.get("ImmediateData").is_none_or(|v| v == "Yes"),
    };
    if params.max_segment < 512 || params.max_burst < 512 || params.first_burst < 512 {
        bail!("the target declared a length below 512: {params:?}");
    }
    Ok(params)
}

/// A bench with digests that negotiated none would measure something else.
fn check_digests(answers: &HashMap<String, String>, wanted: bool) -> Result<()> {
    for key in ["HeaderDigest", "DataDigest"] {
        let got = answers.get(key).map_or("None", String::as_str);
        let want = if wanted { "CRC32C" } else { "None" };
        if got != want {
            bail!("the target answered {key}={got} where {want} was offered");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_parameters() {
        let mut answers = HashMap::new();
        collect(
            b"MaxRecvDataSegmentLength=65536\0InitialR2T=Yes\0\0FirstBurstLength=4096\0",
            &mut answers,
        )
        .unwrap();
        let params = agreed(&answers).unwrap();
        assert_eq!(params.max_segment, 65536);
        assert_eq!((params.first_burst, params.max_burst), (4096, OUR_MAX_BURST));
        assert!(params.initial_r2t && params.immediate_data);
        assert!(collect(b"novalue\0", &mut answers).is_err());
    }

    #[test]
    fn silence_about_digests_means_none() {
        check_digests(&HashMap::new(), false).unwrap();
        assert!(check_digests(&HashMap::new(), true).is_err());
    }
}
