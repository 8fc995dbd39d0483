//! Management: CIM-XML, REST and a web page over one service layer.
#![forbid(unsafe_code)]

pub mod api;
pub mod cim;
mod metrics;
pub mod rest;
pub mod server;
pub mod service;
pub mod size;
mod web;
