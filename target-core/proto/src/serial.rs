//! Sequence numbers compared as RFC 1982 wants it (RFC 7143 §4.2.2): there is no total order, so
//! the types have none.

macro_rules! serial_number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                self.add(1)
            }

            /// The number `count` after this one.
            #[must_use]
            pub const fn add(self, count: u32) -> Self {
                Self(self.0.wrapping_add(count))
            }

            /// How far this number is behind `earlier`, which must not be later.
            #[must_use]
            pub const fn distance(self, earlier: Self) -> u32 {
                self.0.wrapping_sub(earlier.0)
            }

            /// Whether this number comes before `other`.
            #[must_use]
            pub const fn lt(self, other: Self) -> bool {
                let ahead = other.0.wrapping_sub(self.0);
                ahead != 0 && ahead < 1 << 31
            }

            /// Whether this number comes before `other` or is the same.
            #[must_use]
            pub const fn le(self, other: Self) -> bool {
                self.0 == other.0 || self.lt(other)
            }
        }
    };
}

serial_number!(
    /// Numbers the commands of a session (RFC 7143 §4.2.2.1).
    CmdSn
);
serial_number!(
    /// Numbers the responses of a connection (RFC 7143 §4.2.2.2).
    StatSn
);
serial_number!(
    /// Numbers the data PDUs of a task or sequence (RFC 7143 §4.2.2.3).
    DataSn
);
serial_number!(
    /// Numbers the R2Ts of a task (RFC 7143 §11.8).
    R2tSn
);

#[cfg(test)]
mod tests {
    use super::CmdSn;

    #[test]
    fn order_survives_the_wrap() {
        assert!(CmdSn(0xffff_ffff).lt(CmdSn(0)));
        assert!(CmdSn(0xffff_fff0).lt(CmdSn(0x10)));
        assert!(!CmdSn(0x10).lt(CmdSn(0xffff_fff0)));
        assert!(!CmdSn(7).lt(CmdSn(7)) && CmdSn(7).le(CmdSn(7)));
        assert_eq!(CmdSn(2).distance(CmdSn(0xffff_fffe)), 4);
        // Half the circle apart: neither comes first.
        assert!(!CmdSn(0).lt(CmdSn(1 << 31)) && !CmdSn(1 << 31).lt(CmdSn(0)));
    }
}
