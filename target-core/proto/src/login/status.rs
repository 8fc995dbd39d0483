//! How a login ends (RFC 7143 §11.13.5).

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// Status-Class and Status-Detail of a login response.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum LoginStatus { $($(#[$doc])* $name,)* }

        impl LoginStatus {
            /// Status-Class and Status-Detail.
            #[must_use]
            pub const fn code(self) -> (u8, u8) {
                let value: u16 = match self { $(Self::$name => $value,)* };
                let [class, detail] = value.to_be_bytes();
                (class, detail)
            }

            /// What it means, for logs.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

statuses! {
    /// Login is going on, or has succeeded.
    Success = 0x0000, "success";
    /// The target has moved for now.
    TargetMovedTemporarily = 0x0101, "target moved temporarily";
    /// The target has moved for good.
    TargetMovedPermanently = 0x0102, "target moved permanently";
    /// The initiator broke a rule.
    InitiatorError = 0x0200, "initiator error";
    /// The initiator could not be authenticated.
    AuthenticationFailure = 0x0201, "authentication failure";
    /// The initiator may not use the target.
    AuthorizationFailure = 0x0202, "authorization failure";
    /// There is no such target.
    NotFound = 0x0203, "target not found";
    /// The target is gone for good.
    TargetRemoved = 0x0204, "target removed";
    /// No common version.
    UnsupportedVersion = 0x0205, "unsupported version";
    /// The session has all the connections it may have.
    TooManyConnections = 0x0206, "too many connections";
    /// InitiatorName or TargetName is missing.
    MissingParameter = 0x0207, "missing parameter";
    /// The connection cannot be included in this session.
    CannotIncludeInSession = 0x0208, "cannot include in session";
    /// The session type is not supported.
    SessionTypeNotSupported = 0x0209, "session type not supported";
    /// There is no session of this TSIH.
    SessionDoesNotExist = 0x020a, "session does not exist";
    /// A request that does not belong into a login.
    InvalidDuringLogin = 0x020b, "invalid during login";
    /// The target failed.
    TargetError = 0x0300, "target error";
    /// Not now; initiators try again.
    ServiceUnavailable = 0x0301, "service unavailable";
    /// There are no resources for one more session.
    OutOfResources = 0x0302, "out of resources";
}

impl std::fmt::Display for LoginStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (class, detail) = self.code();
        write!(f, "{class:02x}{detail:02x} ({})", self.text())
    }
}
