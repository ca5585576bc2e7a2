//! Running rclone: which remote it is to reach, starting it, its version, its messages.

mod target;

pub use target::{Secret, Settings, Target};
