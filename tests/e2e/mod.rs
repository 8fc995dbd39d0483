//! One idea a file; each test has a daemon and a directory of its own.

mod access;
mod access_states;
mod accounts;
mod chap;
mod configuration;
mod declarative;
mod deleted_files;
mod drain;
mod exit_status;
mod expand;
mod faults;
mod formats;
mod hostile;
mod limits;
mod live;
mod logs;
mod long_copies;
mod lunctl;
mod mode_pages;
mod model;
mod no_space;
mod persistence;
mod pools;
mod portal_groups;
mod reservations;
mod rest;
#[cfg(feature = "failpoints")]
mod restart;
mod sanitize;
mod saved_state;
mod sessions;
mod signals;
mod start;
mod storm;
mod support;
mod tls;
