//! Settings from the environment and from the configuration file, as plain values. What they mean
//! together with flags and defaults is decided by the front doors.

mod environment;
mod error;
mod file;
mod reader;
mod remote;
mod retention;
mod values;

pub use environment::Environment;
pub use error::ConfigError;
pub use file::{Config, Limits, Setting};
pub use remote::{Login, Provider, RemoteConfig};
pub use retention::retention;
pub use values::{bandwidth, connections, duration, switch, transactions};
