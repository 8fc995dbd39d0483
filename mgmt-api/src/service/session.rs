//! Sessions and their traces.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

use super::{Refusal, Result, Service, ServiceError};
use crate::api;

/// A trace that is being taken, as the bytes of a pcapng file. It ends with its connection, or when
/// it is dropped.
pub type Trace = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// Why no trace is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceRefusal {
    /// There is no such session.
    NoSuchSession,
    /// So many are taken already.
    TooMany,
}

impl Service {
    /// All sessions.
    #[must_use]
    pub fn sessions(&self) -> Vec<api::Session> {
        self.host.sessions()
    }

    /// A session by its TSIH.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::NotFound`].
    pub fn session(&self, key: &str) -> Result<api::SessionDetail> {
        self.host.session(tsih(key)?).ok_or_else(|| missing(key))
    }

    /// Takes a trace of a session, from now on.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::NotFound`], [`Refusal::Unavailable`].
    pub fn trace(&self, key: &str) -> Result<Trace> {
        self.host.trace(tsih(key)?).map_err(|refusal| match refusal {
            TraceRefusal::NoSuchSession => missing(key),
            TraceRefusal::TooMany => ServiceError::new(
                Refusal::Unavailable,
                "as many traces as can be are taken already; end one of them",
            ),
        })
    }
}

fn tsih(key: &str) -> Result<u16> {
    key.parse().map_err(|_| {
        ServiceError::new(Refusal::Invalid, format!("`{key}` is no TSIH: a number is wanted"))
    })
}

fn missing(key: &str) -> ServiceError {
    ServiceError::new(Refusal::NotFound, format!("there is no session {key}"))
}
