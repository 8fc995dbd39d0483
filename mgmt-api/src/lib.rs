//! Management: CIM-XML, REST and a web page over one service layer.
#![forbid(unsafe_code)]

pub mod access;
pub mod api;
pub mod cim;
mod http_client;
pub mod listen;
mod metrics;
pub mod otlp;
pub mod rest;
pub mod routes;
pub mod server;
pub mod service;
pub mod size;
pub mod space;
pub mod tls;
pub mod tls_client;
mod web;
