//! A proxy before an HTTP server that does, request by request, what networks and services do at their
//! worst.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// What is done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Pass,
    Delay(Duration),
    /// Answered by the proxy: status, further headers, body.
    Answer(u16, &'static str, &'static str),
    /// Half of the request's body reaches the server, then both connections end.
    CutUp,
    /// Half of the answer's body reaches the client, then the connection ends.
    CutDown,
    /// Half of the answer's body reaches the client, and nothing more.
    HangDown,
    /// Nothing happens, until [`Proxy::release`] lets it pass.
    Hold,
    /// The connection ends without an answer.
    Reset,
}

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Bytes of the body as announced.
    pub(crate) len: usize,
    /// How many requests of this method and path came before.
    pub(crate) earlier: usize,
}

type Script = dyn Fn(&Request) -> Action + Send + Sync;

struct Shared {
    upstream: u16,
    script: Mutex<Arc<Script>>,
    requests: Mutex<Vec<Request>>,
    /// The path of each answer that the server gave, and the bytes of its body.
    answers: Mutex<Vec<(String, usize)>>,
    /// Requests that are held now, and whether they may go.
    held: Mutex<(usize, bool)>,
    changed: Condvar,
    stopped: AtomicBool,
}

/// A proxy at a port of its own. Ends with the value.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts a proxy before the server at `upstream`.
    pub(crate) fn start(upstream: u16, script: impl Fn(&Request) -> Action + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            upstream,
            script: Mutex::new(Arc::new(script)),
            requests: Mutex::default(),
            answers: Mutex::default(),
            held: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if of_thread.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&of_thread);
                // A connection that fails is what clients are tested for.
                thread::spawn(move || drop(serve(&shared, &client)));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Does something else from now on.
    pub(crate) fn script(&self, script: impl Fn(&Request) -> Action + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// What came so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Bytes of content that came down so far, of what the paths with this in them name.
    pub(crate) fn fetched(&self, part: &str) -> usize {
        let answers = self.shared.answers.lock().unwrap();
        answers.iter().filter(|(path, _)| path.contains(part)).map(|(_, bytes)| bytes).sum()
    }

    /// How many requests came so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// How many requests are held.
    pub(crate) fn held(&self) -> usize {
        self.shared.held.lock().unwrap().0
    }

    /// Lets pass what is held, and what will be.
    pub(crate) fn release(&self) {
        self.shared.held.lock().unwrap().1 = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.release();
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// Serves the one request of a connection. Every answer says that the connection ends with it, which
/// spares us from knowing where answers end.
fn serve(shared: &Shared, mut client: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(client);
    let head = head(&mut reader)?;
    let mut words = head.first().map(String::as_str).unwrap_or_default().split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let len = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let (request, action) = {
        let mut requests = shared.requests.lock().unwrap();
        let earlier = requests.iter().filter(|r| r.method == method && r.path == path).count();
        let request = Request { method, path, len, earlier };
        requests.push(request.clone());
        let script = Arc::clone(&shared.script.lock().unwrap());
        drop(requests);
        (request.clone(), script(&request))
    };
    if action == Action::Reset {
        return client.shutdown(Shutdown::Both);
    }
    if header(&head, "expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let body = if header(&head, "transfer-encoding").is_some() {
        chunked(&mut reader)?
    } else {
        let mut body = vec![0; len];
        reader.read_exact(&mut body)?;
        body
    };
    match action {
        Action::Answer(status, headers, text) => {
            let len = text.len();
            let text = if request.method == "HEAD" { "" } else { text };
            write!(
                client,
                "HTTP/1.1 {status} Status\r\n{headers}Content-Length: {len}\r\nConnection: close\r\n\r\n{text}"
            )?;
            return client.shutdown(Shutdown::Both);
        }
        Action::Delay(time) => thread::sleep(time),
        Action::Hold => hold(shared),
        _ => {}
    }
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream))?;
    for line in &head {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if !matches!(name.as_str(), "connection" | "expect") {
            write!(server, "{line}\r\n")?;
        }
    }
    server.write_all(b"Connection: close\r\n\r\n")?;
    if action == Action::CutUp {
        server.write_all(&body[..body.len() / 2])?;
        server.shutdown(Shutdown::Write)?;
        // The server is to have noticed before the client can try again.
        let _ = server.read_to_end(&mut Vec::new());
        return client.shutdown(Shutdown::Both);
    }
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if request.method == "GET" {
        let head = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        shared.answers.lock().unwrap().push((request.path.clone(), answer.len() - head));
    }
    if matches!(action, Action::CutDown | Action::HangDown) {
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        answer.truncate(end + (answer.len() - end) / 2);
    }
    client.write_all(&answer)?;
    if action == Action::HangDown {
        hold(shared);
    }
    client.shutdown(Shutdown::Both)
}

fn hold(shared: &Shared) {
    let mut held = shared.held.lock().unwrap();
    held.0 += 1;
    while !held.1 {
        held = shared.changed.wait(held).unwrap();
    }
    held.0 -= 1;
}

/// The first line and the headers.
fn head(reader: &mut impl BufRead) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(Vec::new());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_owned());
    }
}

fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    head.iter().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A body in chunks, as it came.
fn chunked(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let start = body.len();
        reader.read_until(b'\n', &mut body)?;
        let line = String::from_utf8_lossy(&body[start..]).into_owned();
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(std::io::Error::other)?;
        let mut rest = vec![0; size + 2];
        reader.read_exact(&mut rest)?;
        body.extend(rest);
        if size == 0 {
            return Ok(body);
        }
    }
}
