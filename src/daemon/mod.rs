//! The scheduler: what runs when, the daemon that does it, triggers from outside, and what is remembered.
//!
//! [`plan`] decides, and is pure. Everything around it carries out what was decided: each job is a process of
//! this program's own, so that one that crashes or swells cannot take the daemon along. One job runs at a time
//! for each state dir, also when triggers find no daemon and run theirs by themselves.

mod account;
mod alarms;
mod command;
mod conditions;
pub mod job;
pub mod lock;
pub mod log;
mod notes;
mod notify;
pub mod plan;
mod prometheus;
pub mod records;
mod run;
mod settings;
pub mod socket;
mod trigger;
mod watch;
mod worker;

pub use notes::peek;
pub use run::{DaemonError, Parts, Places, once, run};
pub use settings::{Hooks, Notices, Settings, seed};
pub use trigger::{Fired, ask, fire};

pub use crate::fs::own_session;
