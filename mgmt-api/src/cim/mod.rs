//! CIM-XML: DSP0200 1.4 over DSP0201 2.4, with the classes of `mof/`; WS-Management (`wsman/`).
//!
//! Who asks is known before (`access`); `rights` says who may do what.

mod arguments;
mod associations;
mod bulk;
mod credentials;
mod encode;
mod encode_class;
mod enumerations;
mod expose;
mod fault;
mod health;
mod http;
mod indications;
mod instances;
mod masking;
mod methods;
mod modify;
mod mof;
mod mof_token;
mod network;
mod nodes;
mod operations;
mod out;
mod path;
mod ports;
mod profiles;
mod pull;
mod replicas;
mod replicate;
mod request;
mod respond;
pub(crate) mod rights;
mod schema;
mod settings;
mod statistics;
mod stored;
#[cfg(test)]
mod tests;
mod time;
mod value;
mod views;
pub(crate) mod wsman;
mod xml;

use std::fmt;
use std::sync::Arc;

use job_engine::Engine;
use parking_lot::Mutex;

pub use http::routes;
pub(crate) use http::timed_out;
pub use indications::Indications;

use crate::service::Host;

use enumerations::Enumerations;
use schema::Schema;

/// The CIM object manager: the engine as CIM classes and instances.
pub struct Cimom {
    engine: Arc<Engine>,
    schema: Arc<Schema>,
    indications: Arc<Indications>,
    system_name: String,
    enumerations: Mutex<Enumerations>,
    host: Option<Arc<dyn Host>>,
}

impl Cimom {
    /// Serves `engine`, whose outbox `indications` is; its system's name should be that of the
    /// engine itself, so that paths in errors lead to instances.
    #[must_use]
    pub fn new(engine: Arc<Engine>, indications: Arc<Indications>) -> Self {
        let (schema, system_name) = (indications.schema().clone(), indications.system().to_owned());
        indications.connect(&engine);
        let enumerations = Mutex::default();
        Self { engine, schema, indications, system_name, enumerations, host: None }
    }

    /// Shows what there is of the data path: ports, sessions and connections.
    #[must_use]
    pub fn over(self, host: Arc<dyn Host>) -> Self {
        Self { host: Some(host), ..self }
    }
}

impl fmt::Debug for Cimom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cimom").field("system_name", &self.system_name).finish_non_exhaustive()
    }
}
