//! Settings from the environment and from the configuration file, as plain values. What they mean
//! together with flags and defaults is decided by the front doors.

mod advice;
mod backup;
pub mod draft;
mod environment;
mod error;
mod file;
mod full;
mod health;
mod hooks;
pub mod import;
mod page;
mod reader;
mod remote;
mod retention;
mod schedule;
mod start;
mod tables;
mod triggers;
mod values;

pub use backup::{BackupConfig, INCLUDE_SETS, ProfileSetting};
pub use environment::Environment;
pub use error::ConfigError;
pub use file::{Config, Limits, Setting};
pub use full::FullConfig;
pub use health::HealthConfig;
pub use hooks::{HookConfig, HooksConfig};
pub use page::{KeyDoc, TableDoc, keys};
pub use remote::{Login, Provider, RemoteConfig};
pub use retention::retention;
pub use schedule::{LogFormat, OnCondition, ScheduleConfig};
pub use start::StartConfig;
pub use triggers::TriggersConfig;
pub use values::{bandwidth, connections, duration, shell_variables, switch, transactions};
