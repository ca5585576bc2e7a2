//! Telling others: commands of the user's, and a service that waits to hear from us.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::command::{self, Limits, Stream};
use super::log::{Level, Log};
use crate::clock::Clock;

/// How long a call of the service may take, in seconds.
const PING_SECONDS: u32 = 10;
/// More than the program itself allows.
const PING_LIMIT: Duration = Duration::from_secs(15);
/// How long a command has to end when it is asked to.
const GRACE: Duration = Duration::from_millis(500);
/// Lines of a command that get into the log.
const MAX_LINES: usize = 200;

/// A shell command of the configuration's.
pub(super) struct Hook<'a> {
    /// The key that it stands under.
    pub(super) key: &'a str,
    pub(super) command: &'a str,
    pub(super) timeout: Duration,
    /// Variables that it gets beside ours.
    pub(super) variables: &'a [(&'a str, &'a str)],
    /// What it can read.
    pub(super) input: &'a [u8],
}

impl Hook<'_> {
    /// Runs it, without our secrets, and puts what it says into the log. What went wrong, if anything did.
    pub(super) fn run(&self, stop: &AtomicBool, clock: &dyn Clock, log: &Log) -> Result<(), String> {
        let mut shell = command::stranger("/bin/sh");
        shell.arg("-c").arg(self.command).envs(self.variables.iter().copied());
        let limits = Limits { stop, time: Some(self.timeout), grace: GRACE, line: command::LINE };
        let mut lines = 0;
        let ended = command::run(
            &mut shell,
            self.input,
            &limits,
            clock,
            |_| {},
            |_, line| {
                lines += 1;
                if lines <= MAX_LINES {
                    let text = format!("{}: {}", self.key, String::from_utf8_lossy(line));
                    log.event(Level::Info, "hook-output", &[("hook", self.key.into())], &text);
                }
            },
        );
        match ended {
            Ok(ended) if ended.is_good() => Ok(()),
            Ok(ended) => Err(format!("the command of {}: {}", self.key, ended.words())),
            Err(e) => Err(format!("the command of {} cannot be started: {e}", self.key)),
        }
    }

    /// The same for one whose failure changes nothing.
    pub(super) fn run_and_tell(&self, stop: &AtomicBool, clock: &dyn Clock, log: &Log) {
        if let Err(message) = self.run(stop, clock, log) {
            log.event(Level::Warning, "hook-failed", &[("hook", self.key.into())], &message);
        }
    }
}

/// What a service is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ping {
    Start,
    Success,
    Failure,
}

/// Calls the service. Only curl is asked to, which every system has: a client of our own would bring a second
/// implementation of TLS, with certificates that nobody keeps up to date. The address may be a secret, so it is
/// handed over where no list of processes shows it; nothing about the backup is sent.
pub(super) fn ping(url: &str, what: Ping, stop: &AtomicBool, clock: &dyn Clock, log: &Log) {
    let failed = |message: &str| {
        // Whatever was said, the address was not.
        let message = format!("the ping did not arrive: {}", message.replace(url, "***"));
        log.say(Level::Warning, "ping-failed", &message);
    };
    let Some(config) = curl_config(&address(url, what)) else {
        return failed("the address is none");
    };
    let mut curl = command::stranger("curl");
    curl.args(["-q", "--config", "-"]);
    let limits = Limits { stop, time: Some(PING_LIMIT), grace: Duration::ZERO, line: command::LINE };
    let mut said = String::new();
    let ended = command::run(
        &mut curl,
        config.as_bytes(),
        &limits,
        clock,
        |_| {},
        |stream, line| {
            if stream == Stream::Err && said.len() < 500 {
                said.push_str(&String::from_utf8_lossy(line));
            }
        },
    );
    match ended {
        Ok(ended) if ended.is_good() => {}
        Ok(ended) if said.is_empty() => failed(&ended.words()),
        Ok(_) => failed(&said),
        Err(e) => failed(&format!("cannot start the program curl: {e}")),
    }
}

/// `URL/start`, `URL`, `URL/fail`; a query stays behind.
fn address(url: &str, what: Ping) -> String {
    let (path, query) = match url.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (url, String::new()),
    };
    let end = match what {
        Ping::Start => "/start",
        Ping::Success => "",
        Ping::Failure => "/fail",
    };
    format!("{}{end}{query}", path.trim_end_matches('/'))
}

/// What curl reads; `None` for what is no address of the web.
fn curl_config(url: &str) -> Option<String> {
    let web = url.starts_with("https://") || url.starts_with("http://");
    let plain = url.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'));
    (web && plain && url.len() < 4_096).then(|| {
        format!(
            "url = \"{url}\"\nsilent\nshow-error\nfail\ngloboff\nproto = \"=http,https\"\noutput = \"/dev/null\"\n\
             max-time = {PING_SECONDS}\nmax-filesize = 65536\nuser-agent = \"exuvia/{}\"\n",
            env!("CARGO_PKG_VERSION")
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn addresses_follow_the_convention() {
        for (url, what, want) in [
            ("https://h/u", Ping::Start, "https://h/u/start"),
            ("https://h/u/", Ping::Success, "https://h/u"),
            ("https://h/u", Ping::Failure, "https://h/u/fail"),
            ("https://h/u?a=b", Ping::Failure, "https://h/u/fail?a=b"),
        ] {
            assert_eq!(address(url, what), want);
        }
    }

    #[test]
    fn only_addresses_reach_the_program() {
        assert!(
            curl_config("https://hc-ping.com/x").unwrap().starts_with("url = \"https://hc-ping.com/x\"\n")
        );
        for bad in
            ["file:///etc/passwd", "https://a\"\noutput=\"/tmp/x", "https://a\\b", "https://a b", "x", ""]
        {
            assert_eq!(curl_config(bad), None, "{bad}");
        }
    }
}
