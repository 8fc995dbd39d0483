//! The hash functions of CHAP (RFC 1994 §4.1; numbers: IANA, PPP Authentication Algorithms).

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;
use sha3::Sha3_256;

use super::negotiate;

/// A hash function that CHAP can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChapAlgorithm {
    /// Every initiator has it (RFC 7143 §12.1.3).
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA3-256.
    Sha3_256,
}

impl ChapAlgorithm {
    /// All of them, in the order in which they are chosen.
    pub const STRONGEST_FIRST: [Self; 4] = [Self::Sha3_256, Self::Sha256, Self::Sha1, Self::Md5];

    /// The value of CHAP_A.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha1 => 6,
            Self::Sha256 => 7,
            Self::Sha3_256 => 8,
        }
    }

    /// What it is called in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha3_256 => "sha3-256",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::STRONGEST_FIRST.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Length of a response, and of the challenges that are sent with it.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3_256 => 32,
        }
    }

    /// The hash over all parts, one behind the other.
    pub(super) fn hash(self, parts: [&[u8]; 3]) -> Vec<u8> {
        match self {
            Self::Md5 => digest::<Md5>(parts),
            Self::Sha1 => digest::<Sha1>(parts),
            Self::Sha256 => digest::<Sha256>(parts),
            Self::Sha3_256 => digest::<Sha3_256>(parts),
        }
    }
}

fn digest<D: Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
    let mut hasher = D::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().to_vec()
}

/// A set of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChapAlgorithms(u16);

impl ChapAlgorithms {
    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, algorithm: ChapAlgorithm) -> bool {
        self.0 & 1 << algorithm.number() != 0
    }

    /// The strongest of the set that is in an initiator's list.
    pub(super) fn choose(self, list: &str) -> Option<ChapAlgorithm> {
        let offered: Vec<u32> = list.split(',').filter_map(negotiate::number).collect();
        ChapAlgorithm::STRONGEST_FIRST.into_iter().find(|algorithm| {
            self.contains(*algorithm) && offered.contains(&u32::from(algorithm.number()))
        })
    }
}

impl Default for ChapAlgorithms {
    /// All of them.
    fn default() -> Self {
        ChapAlgorithm::STRONGEST_FIRST.into_iter().collect()
    }
}

impl FromIterator<ChapAlgorithm> for ChapAlgorithms {
    fn from_iter<I: IntoIterator<Item = ChapAlgorithm>>(algorithms: I) -> Self {
        Self(algorithms.into_iter().fold(0, |set, algorithm| set | 1 << algorithm.number()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ChapAlgorithm::{Md5, Sha1, Sha3_256, Sha256};

    use super::super::binary::to_hex;
    use super::*;

    /// `hashlib.new(name, b"\x07" b"secret-of-alice" + b"Z" * length).hexdigest()` of Python,
    /// where `length` is the algorithm's.
    pub(in crate::login) const PROOFS: [(ChapAlgorithm, &str); 4] = [
        (Md5, "0x794e8f44ede3f3e7b7f2163827f88d96"),
        (Sha1, "0x9c9b0bf061f4ccb99f26fbebe7e08e2f9c365413"),
        (Sha256, "0xd5d2eabff6b013cf17accafecde8640f004c37a306bf8933ac59fd2567427e62"),
        (Sha3_256, "0x1a939611afd2127aee1bc2ba1f63e405142869d2999b448f995e64adf327cb34"),
    ];

    #[test]
    fn each_algorithm_gives_what_another_implementation_gives() {
        for (algorithm, proof) in PROOFS {
            let challenge = vec![b'Z'; algorithm.length()];
            let hash = algorithm.hash([&[7], b"secret-of-alice", &challenge]);
            assert_eq!(to_hex(&hash), proof, "{algorithm:?}");
            assert_eq!(hash.len(), algorithm.length());
        }
        // The vectors of the standards for "abc" (RFC 1321, FIPS 180-4, FIPS 202).
        for (algorithm, hash) in [
            (Md5, "0x900150983cd24fb0d6963f7d28e17f72"),
            (Sha1, "0xa9993e364706816aba3e25717850c26c9cd0d89d"),
            (Sha256, "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (Sha3_256, "0x3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        ] {
            assert_eq!(to_hex(&algorithm.hash([b"a", b"", b"bc"])), hash, "{algorithm:?}");
        }
    }

    #[test]
    fn the_strongest_that_both_sides_have_is_chosen_whatever_the_initiator_prefers() {
        let all = ChapAlgorithms::default();
        for (list, chosen) in [
            ("5,6,7,8", Some(Sha3_256)),
            ("8,7,6,5", Some(Sha3_256)),
            ("5,7,6", Some(Sha256)),
            ("5,6", Some(Sha1)),
            ("5", Some(Md5)),
            ("0x5,0X7", Some(Sha256)),
            ("9,4,5,4294967295", Some(Md5)),
            ("x,,5", Some(Md5)),
            ("", None),
            ("55", None),
            ("9", None),
            ("261", None),
            ("+5", None),
            (" 5", None),
            ("MD5", None),
        ] {
            assert_eq!(all.choose(list), chosen, "{list}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_not_chosen() {
        let some: ChapAlgorithms = [Sha1, Sha256].into_iter().collect();
        assert_eq!(some.choose("5,6,7,8"), Some(Sha256));
        assert_eq!(some.choose("5,6,8"), Some(Sha1));
        assert_eq!(some.choose("5,8"), None);
        let none: ChapAlgorithms = [].into_iter().collect();
        assert_eq!(none.choose("5,6,7,8"), None);
    }

    #[test]
    fn names_and_numbers_are_those_of_the_registry() {
        let numbers = ChapAlgorithm::STRONGEST_FIRST.map(ChapAlgorithm::number);
        assert_eq!(numbers, [8, 7, 6, 5]);
        for algorithm in ChapAlgorithm::STRONGEST_FIRST {
            assert_eq!(ChapAlgorithm::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(ChapAlgorithm::from_name("MD5"), None);
    }
}
