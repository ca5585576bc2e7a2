//! Whether this is a good moment.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::command::{self, Limits};
use super::settings::Settings;
use crate::clock::Clock;
use crate::fs;

/// How long the system has to answer one question.
const LIMIT: Duration = Duration::from_secs(3);

/// Why jobs should wait, as far as the user wants them to; `None` when nothing speaks against them, and where
/// nothing can be told. May take seconds: programs of the system are asked.
pub(super) fn hold(settings: &Settings, clock: &dyn Clock) -> Option<&'static str> {
    if settings.battery_pause && on_battery(clock) {
        return Some("the machine runs on battery");
    }
    if settings.metered_pause && on_metered_network(clock) {
        return Some("the network is metered");
    }
    None
}

fn on_battery(clock: &dyn Clock) -> bool {
    if cfg!(target_os = "macos") {
        let ask = ["-g", "batt"];
        return says("/usr/bin/pmset", &ask, clock, |line| {
            String::from_utf8_lossy(line).contains("Battery Power")
        });
    }
    fs::on_battery() == Some(true)
}

/// Asks NetworkManager, which knows it of the connection that is in use: yes, or guessed so.
fn on_metered_network(clock: &dyn Clock) -> bool {
    const NAME: &str = "org.freedesktop.NetworkManager";
    let ask = ["get-property", NAME, "/org/freedesktop/NetworkManager", NAME, "Metered"];
    says("busctl", &ask, clock, |line| matches!(line.trim_ascii(), b"u 1" | b"u 3"))
}

/// True when the program has a line that means yes.
fn says(program: &str, arguments: &[&str], clock: &dyn Clock, yes: impl Fn(&[u8]) -> bool) -> bool {
    let mut command = command::stranger(program);
    command.args(arguments);
    let never = AtomicBool::new(false);
    let limits = Limits { stop: &never, time: Some(LIMIT), grace: Duration::ZERO, line: command::LINE };
    let mut said = false;
    let ended = command::run(&mut command, b"", &limits, clock, |_| {}, |_, line| said |= yes(line));
    ended.is_ok_and(|ended| ended.is_good()) && said
}
