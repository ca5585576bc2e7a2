//! HTTP/2 over a socket: the only asynchronous code of the storage layers.
//!
//! Everything around it is synchronous. rclone speaks HTTP/2 on its standard input and output, no
//! maintained HTTP/2 client is synchronous, and `h2` is the one that hyper rests on; so one thread runs a
//! single-threaded runtime that drives the connection and its timers, and callers wait for their own
//! requests on their own threads. Nothing asynchronous leaves this file.

use std::future::{Future, poll_fn};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Response, header};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How much of one answer, and of all together, rclone may send before it is taken.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
const MAX_FRAME: u32 = 1 << 20;
/// What lies between a body and the socket.
const SEND_BUFFER: usize = 1 << 20;
/// A body is copied in pieces of at most so much.
const PIECE: usize = 256 << 10;
/// Waiting is interrupted so often to see whether it should go on.
const TICK: Duration = Duration::from_millis(100);
/// Uploads slower than this count as stuck once all bytes are rclone's: it may hold a whole object back
/// and send it while nothing is seen here.
const SLOWEST: u64 = 16 << 10;
/// Most that rclone holds of an object whose length it does not know before it takes more: a few pieces, of 96 MiB each
/// for some services, which go out side by side.
const HELD: u64 = 512 << 20;
/// A service that must know the length gets all of a stream only when it has ended. Where that is more than [`HELD`],
/// the rest goes out faster than this, or counts as stuck.
const SLOWEST_REST: u64 = 256 << 10;
/// Most of an answer's memory that its stated length may claim before any byte is here.
const TRUSTED_LENGTH: u64 = 1 << 20;

/// What came back.
pub(super) struct Reply {
    pub(super) status: u16,
    /// The length that the headers state.
    pub(super) length: Option<u64>,
    /// The `Server` header.
    pub(super) server: Option<String>,
    /// At most as many bytes as were asked for.
    pub(super) body: Vec<u8>,
    /// There was more.
    pub(super) cut: bool,
}

/// Why nothing, or not all, came back.
#[derive(Debug)]
pub(super) enum Broken {
    Interrupted,
    /// No progress for too long; `all` when no request on the connection made any.
    Idle {
        all: bool,
    },
    /// The connection, or only this one request on it, was cut.
    Lost {
        reason: String,
        only_this: bool,
    },
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        Self::Lost { reason: error.to_string(), only_this: error.is_reset() }
    }
}

/// How long to wait.
pub(super) struct Patience<'a> {
    pub(super) cancelled: &'a (dyn Fn() -> bool + Sync),
    pub(super) idle: Duration,
}

/// A connection and the thread that drives it. Requests borrow it, so the runtime outlives them all.
pub(super) struct Connection {
    handle: Handle,
    sender: SendRequest<Bytes>,
    progress: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    driver: Option<JoinHandle<()>>,
}

type Opened = Result<(Handle, SendRequest<Bytes>), String>;

impl Connection {
    /// Begins to speak on `socket`. Does not wait for the other side.
    pub(super) fn open(socket: UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (opened, result) = mpsc::channel::<Opened>();
        let (stop, stopped) = oneshot::channel();
        let driver = std::thread::Builder::new().name("rclone".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
            match runtime {
                Ok(runtime) => runtime.block_on(drive(socket, opened, stopped)),
                Err(e) => drop(opened.send(Err(e.to_string()))),
            }
        })?;
        let (handle, sender) = result
            .recv()
            .map_err(|e| e.to_string())
            .and_then(|opened| opened)
            .map_err(std::io::Error::other)?;
        Ok(Self { handle, sender, progress: Arc::default(), stop: Some(stop), driver: Some(driver) })
    }

    /// Sends one request and takes at most `max` bytes of its answer's body.
    pub(super) fn exchange(
        &self,
        request: Request<()>,
        body: &[u8],
        max: u64,
        patience: &Patience<'_>,
    ) -> Result<Reply, Broken> {
        let pulse = Pulse { progress: &self.progress, patience, grace: Duration::ZERO };
        self.handle.block_on(exchange(self.sender.clone(), request, body, max, pulse))
    }
}

/// A request whose body is handed over piece by piece. Dropped before its end, it is reset: the other side sees an
/// error, and no end.
pub(super) struct Sending {
    handle: Handle,
    progress: Arc<AtomicU64>,
    stream: h2::SendStream<Bytes>,
    answer: ResponseFuture,
    sent: u64,
    finished: bool,
}

impl Connection {
    /// Begins such a request. What it returns must not outlive the connection.
    pub(super) fn begin(&self, request: Request<()>, patience: &Patience<'_>) -> Result<Sending, Broken> {
        let pulse = Pulse { progress: &self.progress, patience, grace: Duration::ZERO };
        let mut sender = self.sender.clone();
        let begun = self.handle.block_on(async {
            sender = pulse.wait(sender.ready()).await??;
            Ok::<_, Broken>(sender.send_request(request, false)?)
        });
        let (answer, stream) = begun?;
        let (handle, progress) = (self.handle.clone(), Arc::clone(&self.progress));
        Ok(Sending { handle, progress, stream, answer, sent: 0, finished: false })
    }
}

impl Sending {
    /// Sends bytes as fast as they are taken. False when the other side wants no more: it has answered.
    pub(super) fn send(&mut self, bytes: &[u8], patience: &Patience<'_>) -> Result<bool, Broken> {
        // Nothing is taken while rclone sends what it holds, however long that takes on a slow line.
        let grace = held_back(self.sent.saturating_add(bytes.len() as u64));
        let pulse = Pulse { progress: &self.progress, patience, grace };
        let taken = self.handle.block_on(upload(&mut self.stream, bytes, false, &pulse))?;
        self.sent += bytes.len() as u64;
        Ok(taken)
    }

    /// Bytes handed over so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Ends the body, unless the other side had enough of it, and takes at most `max` bytes of the answer.
    pub(super) fn finish(&mut self, whole: bool, max: u64, patience: &Patience<'_>) -> Result<Reply, Broken> {
        // A service that wants to know the length beforehand gets all of it from rclone only now.
        let grace = if whole { at_the_end(self.sent) } else { Duration::ZERO };
        let mut pulse = Pulse { progress: &self.progress, patience, grace };
        if whole {
            // Where that fails the answer tells why.
            drop(self.stream.send_data(Bytes::new(), true));
        }
        let answer = &mut self.answer;
        let reply = self.handle.block_on(async {
            let answer = pulse.wait(answer).await??;
            pulse.grace = Duration::ZERO;
            download(answer, max, &pulse).await
        });
        self.finished = whole && reply.is_ok();
        reply
    }
}

/// How long rclone may take to send what it holds of so many bytes.
fn held_back(sent: u64) -> Duration {
    Duration::from_secs(sent.min(HELD) / SLOWEST)
}

/// The same once the stream has ended, when it may hold all of it.
fn at_the_end(sent: u64) -> Duration {
    held_back(sent) + Duration::from_secs(sent.saturating_sub(HELD) / SLOWEST_REST)
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.finished {
            // Dropped alone, a stream ends well, and what came so far would be taken for all.
            self.stream.send_reset(h2::Reason::CANCEL);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(driver) = self.driver.take() {
            // A panic of the driver was reported by its thread.
            drop(driver.join());
        }
    }
}

/// Drives the connection until it ends, and the timers until nobody needs them.
async fn drive(socket: UnixStream, opened: mpsc::Sender<Opened>, mut stopped: oneshot::Receiver<()>) {
    let connect = async {
        let socket = tokio::net::UnixStream::from_std(socket).map_err(|e| e.to_string())?;
        h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake::<_, Bytes>(socket)
            .await
            .map_err(|e| e.to_string())
    };
    let connection = match connect.await {
        Ok((sender, connection)) => {
            drop(opened.send(Ok((Handle::current(), sender))));
            connection
        }
        Err(message) => return drop(opened.send(Err(message))),
    };
    // In a box, so that it and its socket are gone as soon as it ends: rclone waits for that.
    let mut connection = Some(Box::pin(connection));
    poll_fn(|cx| {
        if let Some(running) = connection.as_mut()
            && running.as_mut().poll(cx).is_ready()
        {
            connection = None;
        }
        Pin::new(&mut stopped).poll(cx).map(drop)
    })
    .await;
}

/// Waits with an eye on whether waiting makes sense.
struct Pulse<'a> {
    progress: &'a AtomicU64,
    patience: &'a Patience<'a>,
    /// Added to the time without progress that is borne.
    grace: Duration,
}

impl Pulse<'_> {
    async fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Broken> {
        // Asked each time: where bytes trickle, no wait is long enough to be interrupted.
        if (self.patience.cancelled)() {
            return Err(Broken::Interrupted);
        }
        let mut future = pin!(future);
        let limit = (self.patience.idle + self.grace).as_millis() / TICK.as_millis();
        let before = self.progress.load(Ordering::Relaxed);
        for _ in 0..limit.max(1) {
            if let Ok(output) = tokio::time::timeout(TICK, future.as_mut()).await {
                self.progress.fetch_add(1, Ordering::Relaxed);
                return Ok(output);
            }
            if (self.patience.cancelled)() {
                return Err(Broken::Interrupted);
            }
        }
        Err(Broken::Idle { all: self.progress.load(Ordering::Relaxed) == before })
    }
}

async fn exchange(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
    max: u64,
    mut pulse: Pulse<'_>,
) -> Result<Reply, Broken> {
    let mut sender = pulse.wait(sender.ready()).await??;
    let (answer, mut stream) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        upload(&mut stream, body, true, &pulse).await?;
        pulse.grace = Duration::from_secs(body.len() as u64 / SLOWEST);
    }
    let answer = pulse.wait(answer).await??;
    pulse.grace = Duration::ZERO;
    download(answer, max, &pulse).await
}

/// Sends a body, or with `last` the rest of one, as fast as rclone takes it. Ends early, and well, with false when
/// rclone answers without reading on.
async fn upload(
    stream: &mut h2::SendStream<Bytes>,
    body: &[u8],
    last: bool,
    pulse: &Pulse<'_>,
) -> Result<bool, Broken> {
    let mut rest = body;
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len().min(PIECE));
        let granted = pulse.wait(poll_fn(|cx| stream.poll_capacity(cx))).await?;
        let Some(Ok(granted)) = granted else { return Ok(false) };
        let Some((piece, after)) = rest.split_at_checked(granted.min(rest.len())) else { continue };
        rest = after;
        if stream.send_data(Bytes::copy_from_slice(piece), last && rest.is_empty()).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn download(answer: Response<h2::RecvStream>, max: u64, pulse: &Pulse<'_>) -> Result<Reply, Broken> {
    let (head, mut stream) = answer.into_parts();
    let text = |name| head.headers.get(name).and_then(|v| v.to_str().ok());
    let length: Option<u64> = text(header::CONTENT_LENGTH).and_then(|l| l.parse().ok());
    let mut reply = Reply {
        status: head.status.as_u16(),
        length,
        server: text(header::SERVER).map(str::to_string),
        body: Vec::with_capacity(
            usize::try_from(length.unwrap_or(0).min(max).min(TRUSTED_LENGTH)).unwrap_or(0),
        ),
        cut: false,
    };
    while let Some(piece) = pulse.wait(poll_fn(|cx| data(&mut stream, cx))).await? {
        let piece = piece?;
        if (reply.body.len() + piece.len()) as u64 > max {
            reply.cut = true;
            break;
        }
        stream.flow_control().release_capacity(piece.len())?;
        if reply.body.is_empty() {
            // The length was no lie so far.
            let wanted = usize::try_from(length.unwrap_or(0).min(max)).unwrap_or(0);
            reply.body.reserve_exact(wanted.max(piece.len()));
        }
        reply.body.extend_from_slice(&piece);
    }
    Ok(reply)
}

fn data(
    stream: &mut h2::RecvStream,
    cx: &mut std::task::Context<'_>,
) -> Poll<Option<Result<Bytes, h2::Error>>> {
    stream.poll_data(cx)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Answers one request when it was told to read its body; gives the length of that.
    async fn answer_late(socket: UnixStream, told: oneshot::Receiver<()>) -> usize {
        socket.set_nonblocking(true).unwrap();
        let socket = tokio::net::UnixStream::from_std(socket).unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let reading = tokio::spawn(async move {
            told.await.unwrap();
            let (mut body, mut taken) = (request.into_body(), 0);
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap();
                taken += piece.len();
                body.flow_control().release_capacity(piece.len()).unwrap();
            }
            respond.send_response(Response::builder().status(200).body(()).unwrap(), true).unwrap();
            taken
        });
        while let Some(Ok(_)) = connection.accept().await {}
        reading.await.unwrap()
    }

    #[test]
    fn a_stream_bears_that_nothing_is_taken_while_the_other_side_sends_what_it_holds() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (tell, told) = oneshot::channel();
        let peer = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(answer_late(theirs, told))
        });
        let connection = Connection::open(ours).unwrap();
        let patient = Patience { cancelled: &|| false, idle: Duration::from_secs(600) };
        let request = Request::post("http://localhost/x").body(()).unwrap();
        let mut sending = connection.begin(request, &patient).unwrap();
        // Well beyond the time without progress that is borne of anything else.
        let (asked, tell) = (AtomicU32::new(0), Mutex::new(Some(tell)));
        let cancelled = || {
            if asked.fetch_add(1, Ordering::Relaxed) == 10 {
                tell.lock().unwrap().take().unwrap().send(()).unwrap();
            }
            false
        };
        let bytes = vec![7; 4 << 20];
        assert!(sending.send(&bytes, &Patience { cancelled: &cancelled, idle: TICK }).unwrap());
        assert_eq!(sending.finish(true, 0, &patient).unwrap().status, 200);
        drop(sending);
        drop(connection);
        assert_eq!(peer.join().unwrap(), bytes.len());
    }

    #[test]
    fn the_wait_for_a_stream_is_bounded_by_what_rclone_holds() {
        let hours = |duration: Duration| duration.as_secs() / 3600;
        assert_eq!(held_back(0), Duration::ZERO);
        assert_eq!(held_back(1 << 20), Duration::from_secs(64));
        assert_eq!((hours(held_back(HELD)), held_back(u64::MAX)), (9, held_back(HELD)));
        assert_eq!((at_the_end(HELD), hours(at_the_end(10 << 30))), (held_back(HELD), 19));
    }
}
