//! How commands reach the daemon: a Unix socket, on which one line of JSON comes in and one goes out.
//!
//! The socket lies in a folder that only its user can enter, and is that user's alone; a peer that the system
//! says to be another user is turned away all the same, but for root, who could do anything anyway.

use std::fs::Permissions;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use serde::{Deserialize, Serialize};

use super::command::bounded_line;
use super::records;
use crate::fs;

/// Longest request, in bytes.
const MAX_LINE: usize = 64 << 10;
/// Longest answer, in bytes: the summary of a run is in it.
const MAX_ANSWER: usize = 4 << 20;
/// A peer that says or takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Peers at once; further ones are turned away.
const MAX_PEERS: usize = 64;
/// Longest name of a trigger.
pub const MAX_NAME: usize = 32;

/// What is asked of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    /// Are you there?
    Ping,
    /// What are you doing?
    Status,
    /// Something happened.
    Trigger {
        /// What.
        name: String,
        /// The answer comes when the run ends.
        #[serde(default)]
        wait: bool,
    },
}

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Response {
    /// The request was understood, and what was waited for went well.
    pub ok: bool,
    /// In words.
    pub message: String,
    /// The class of the error when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The daemon's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The job that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// Triggers that wait.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
    /// When a trigger that has to wait will run, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<i64>,
    /// The summary of the run that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<serde_json::Value>,
    /// The daemon ends, and took no note of what was asked: whoever asked may do it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

impl Response {
    /// A failure.
    #[must_use]
    pub fn failed(class: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), class: Some(class.to_owned()), ..Self::default() }
    }

    /// What is said once the daemon has begun to end.
    pub(super) fn refused() -> Self {
        Self {
            ending: true,
            ..Self::failed("interrupted", "the daemon is ending, and takes no more triggers")
        }
    }
}

/// A request, and where its answer goes.
pub(super) type Asked = (Request, Sender<Response>);

/// Where the socket of a state dir lies: in the user's folder for running programs, or with the records.
#[must_use]
pub fn path_of(runtime: Option<&Path>, folder: &Path, state_dir: &Path) -> PathBuf {
    let name = format!("{}.sock", records::id_of(state_dir));
    runtime.map_or_else(|| folder.to_owned(), |runtime| runtime.join("exuvia")).join(name)
}

/// True for what may be the name of a trigger.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

/// The daemon's end; the socket is taken away when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    path: PathBuf,
}

impl Server {
    /// Listens from now on. Whoever holds the daemon's lock may take the place of a socket that is left over.
    pub(super) fn start<E: Send + 'static>(
        path: &Path,
        events: Sender<E>,
        event: fn(Asked) -> E,
    ) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_private_dir_all(folder)?;
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        std::thread::spawn(move || serve(&listener, &events, event));
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A next daemon takes the place of one that stays.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve<E: Send + 'static>(listener: &UnixListener, events: &Sender<E>, event: fn(Asked) -> E) {
    let peers = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of file handles, most likely: the next one may find some.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if peers.fetch_add(1, Ordering::SeqCst) >= MAX_PEERS || !fs::is_our_peer(&stream) {
            peers.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (peers, events) = (Arc::clone(&peers), events.clone());
        std::thread::spawn(move || {
            // A peer that goes away in the middle is no fault of ours.
            let _ = answer(&stream, &events, event);
            peers.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn answer<E>(stream: &UnixStream, events: &Sender<E>, event: fn(Asked) -> E) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(line) = bounded_line(&mut BufReader::new(stream), MAX_LINE)? else { return Ok(()) };
    let response = match serde_json::from_slice::<Request>(&line) {
        Ok(Request::Trigger { name, .. }) if !is_name(&name) => {
            Response::failed("usage", "a trigger's name has 1 to 32 lowercase letters, digits and hyphens")
        }
        Ok(request) => {
            let (sender, receiver) = bounded(1);
            if events.send(event((request, sender))).is_err() {
                Response::refused()
            } else {
                receiver.recv().unwrap_or_else(|_| Response::refused())
            }
        }
        Err(e) => Response::failed("usage", format!("the request is none: {e}")),
    };
    write_line(stream, &response)
}

fn write_line(mut stream: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Asks the daemon. `None` when there is none; `patient` for an answer that may take as long as a backup.
pub fn ask(path: &Path, request: &Request, patient: bool) -> io::Result<Option<Response>> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    if !fs::is_our_peer(&stream) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the socket is another user's"));
    }
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout((!patient).then_some(PATIENCE))?;
    write_line(&stream, request)?;
    let line = bounded_line(&mut BufReader::new(&stream), MAX_ANSWER)?;
    let line = line.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon went away"))?;
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::Read;

    use super::*;

    #[test]
    fn a_line_in_and_a_line_out_whatever_comes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x/s.sock");
        assert_eq!(ask(&path, &Request::Ping, false).unwrap(), None);
        std::fs::create_dir(dir.path().join("x")).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(ask(&path, &Request::Ping, false).unwrap(), None, "left over by a crash");

        let (events, asked) = bounded(4);
        let server = Server::start(&path, events, |asked| asked).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::thread::spawn(move || {
            for (request, answer) in asked {
                // One who waits hears all of what the run said.
                let summary =
                    matches!(request, Request::Trigger { .. }).then(|| "x".repeat(10 * MAX_LINE).into());
                let message = format!("{request:?}");
                let _ = answer.send(Response { ok: true, message, summary, ..Response::default() });
            }
        });
        let response = ask(&path, &Request::Ping, false).unwrap().unwrap();
        assert!(response.ok && response.message == "Ping");
        let trigger = |name: &str| Request::Trigger { name: name.to_owned(), wait: true };
        let response = ask(&path, &trigger("before-compaction"), true).unwrap().unwrap();
        assert!(
            response.ok && response.summary.is_some_and(|text| text.as_str().unwrap().len() == 10 * MAX_LINE)
        );
        for bad in ["", "A", "a b", "../x", &"a".repeat(33)] {
            let response = ask(&path, &trigger(bad), false).unwrap().unwrap();
            assert_eq!(response.class.as_deref(), Some("usage"), "{bad}");
        }
        for raw in
            [b"{}\n".as_slice(), b"\xff\n", b"[[[[\n", &vec![b'['; 2 * MAX_LINE], b"{\"op\":\"nothing\"}\n"]
        {
            let mut stream = UnixStream::connect(&path).unwrap();
            let _ = stream.write_all(raw);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            assert!(text.contains("usage"), "{text}");
        }
        drop(server);
        assert!(!path.exists());
    }
}
