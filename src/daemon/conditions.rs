//! Whether this is a good moment.

use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::command::{self, Limits};
use super::settings::Settings;
use crate::clock::Clock;
use crate::fs;

/// How long the system has to tell what the network costs.
const LIMIT: Duration = Duration::from_secs(3);

/// Why jobs should wait, as far as the user wants them to; `None` when nothing speaks against them, and where
/// nothing can be told.
pub(super) fn hold(settings: &Settings, clock: &dyn Clock) -> Option<&'static str> {
    if settings.battery_pause && fs::on_battery() == Some(true) {
        return Some("the machine runs on battery");
    }
    if settings.metered_pause && on_metered_network(clock) {
        return Some("the network is metered");
    }
    None
}

/// Asks NetworkManager, which knows it of the connection that is in use: yes, or guessed so.
fn on_metered_network(clock: &dyn Clock) -> bool {
    let mut busctl = Command::new("busctl");
    busctl.args(["get-property", "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"]);
    busctl.args(["org.freedesktop.NetworkManager", "Metered"]);
    let never = AtomicBool::new(false);
    let limits = Limits { stop: &never, time: Some(LIMIT), grace: Duration::ZERO };
    let mut metered = false;
    let ended = command::run(
        &mut busctl,
        b"",
        &limits,
        clock,
        |_| {},
        |_, line| {
            metered |= matches!(line.trim_ascii(), b"u 1" | b"u 3");
        },
    );
    ended.is_ok_and(|ended| ended.is_good()) && metered
}
