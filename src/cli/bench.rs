//! `exuvia bench`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::error::{self, CliError, Status};
use super::global::Context;
use super::interrupt::{self, OnSignal};
use super::output::Table;
use super::progress::Screen;
use super::repository::Place;
use super::{settings, text, units};
use crate::app::{
    self, AppError, BenchOutcome, BenchRequest, Bound, Compression, Level, Rate, RemoteOutcome, RemoteSpeed,
};
use crate::clock::SystemClock;
use crate::model::ErrorClass;

/// Measure this machine and the remote, and tell what to expect
///
/// Measures what backups and restores are made of, each stage for itself, with a sample of the state dir (bytes that
/// are made up where there is none), and the way to the repository with probes in a folder of their own, which are
/// taken away again. Nothing is opened, so no passphrase is needed. From that it estimates how long a first backup,
/// one without changes, and a restore take, and which --compression fits: `max` or `auto` where the upload is what
/// a backup waits for, else `default`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  exuvia bench\n  exuvia bench --no-remote --json")]
pub(super) struct Args {
    /// Leave the remote alone: measure this machine only
    #[arg(long)]
    no_remote: bool,
}

#[derive(Serialize)]
struct Document {
    r#type: &'static str,
    threads: usize,
    /// `state_dir`, or `made_up`.
    sample: &'static str,
    sample_bytes: u64,
    state_dir: Option<JsonTree>,
    stages: JsonStages,
    remote: Option<JsonRemote>,
    left: Vec<String>,
    estimate: JsonEstimate,
}

#[derive(Serialize)]
struct JsonTree {
    #[serde(flatten)]
    path: text::JsonPath,
    entries: u64,
    files: u64,
    bytes: u64,
    unreadable: u64,
    /// False when the walk was ended before the tree did.
    complete: bool,
}

/// All on one core. `null` where there was nothing to measure.
#[derive(Serialize)]
struct JsonStages {
    walk_entries_per_s: Option<f64>,
    read_mib_per_s: Option<f64>,
    chunk_mib_per_s: f64,
    blake3_mib_per_s: f64,
    compress: Vec<JsonLevel>,
    seal_mib_per_s: f64,
    sha256_mib_per_s: f64,
    open_mib_per_s: f64,
    key_derivation_ms: u64,
    cached_key_derivation_ms: u64,
}

#[derive(Serialize)]
struct JsonLevel {
    compression: &'static str,
    mib_per_s: f64,
    /// Bytes for each byte stored.
    ratio: f64,
}

#[derive(Serialize)]
struct JsonRemote {
    location: String,
    request_ms: f64,
    upload_mib_per_s: f64,
    download_mib_per_s: f64,
    parallel: usize,
}

#[derive(Serialize)]
struct JsonEstimate {
    bytes: u64,
    stored_bytes: u64,
    first_backup_ms: u64,
    /// `reading`, `compressing` or `upload`.
    first_backup_bound: &'static str,
    first_backup_fast_ms: Option<u64>,
    unchanged_backup_ms: Option<u64>,
    /// Without the time to write the files.
    restore_ms: u64,
    compression: &'static str,
}

/// To two digits after the point, so that slow lines have some too.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn mib(rate: Rate) -> f64 {
    rate.per_second() / f64::from(1 << 20)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn ratio(level: &Level) -> f64 {
    level.raw as f64 / level.packed.max(1) as f64
}

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::Fast => "fast",
        Compression::Default => "default",
        Compression::Max => "max",
        Compression::Auto => "auto",
    }
}

fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Reading => "reading",
        Bound::Compressing => "compressing",
        Bound::Upload => "upload",
    }
}

fn document(o: &BenchOutcome, threads: usize) -> Document {
    let speed = |rate| rounded(mib(rate));
    let s = &o.stages;
    let remote = measured(o).map(|remote| JsonRemote {
        location: remote.location.clone(),
        request_ms: rounded(remote.request.as_secs_f64() * 1e3),
        upload_mib_per_s: speed(remote.upload),
        download_mib_per_s: speed(remote.download),
        parallel: remote.parallel,
    });
    let level = |level: &Level| JsonLevel {
        compression: name(level.compression),
        mib_per_s: speed(level.rate),
        ratio: rounded(ratio(level)),
    };
    Document {
        r#type: "summary",
        threads,
        sample: if o.sample_is_real { "state_dir" } else { "made_up" },
        sample_bytes: o.sample_bytes,
        state_dir: o.tree.as_ref().map(|tree| JsonTree {
            path: tree.root.as_path().into(),
            entries: tree.walk.amount,
            files: tree.files,
            bytes: tree.bytes,
            unreadable: tree.unreadable,
            complete: tree.complete,
        }),
        stages: JsonStages {
            walk_entries_per_s: o.tree.as_ref().map(|tree| tree.walk.per_second().round()),
            read_mib_per_s: o.tree.as_ref().and_then(|tree| tree.reading).map(speed),
            chunk_mib_per_s: speed(s.chunking),
            blake3_mib_per_s: speed(s.hashing),
            compress: s.compression.iter().map(level).collect(),
            seal_mib_per_s: speed(s.sealing),
            sha256_mib_per_s: speed(s.naming),
            open_mib_per_s: speed(s.opening),
            key_derivation_ms: milliseconds(s.key),
            cached_key_derivation_ms: milliseconds(s.cached_key),
        },
        remote,
        left: o.left.iter().map(|left| left.object.clone()).collect(),
        estimate: JsonEstimate {
            bytes: o.estimate.bytes,
            stored_bytes: o.estimate.stored,
            first_backup_ms: milliseconds(o.estimate.first_backup),
            first_backup_bound: bound(o.estimate.bound),
            first_backup_fast_ms: o.estimate.with_fast.map(milliseconds),
            unchanged_backup_ms: o.estimate.unchanged_backup.map(milliseconds),
            restore_ms: milliseconds(o.estimate.restore),
            compression: name(o.estimate.advice),
        },
    }
}

fn measured(o: &BenchOutcome) -> Option<&RemoteSpeed> {
    match &o.remote {
        RemoteOutcome::Measured(speed) => Some(speed),
        _ => None,
    }
}

fn table(ctx: &Context, o: &BenchOutcome) -> String {
    let mut table = Table::new(&["STAGE", "SPEED", ""], &[1]);
    let mut row = |stage: &str, speed: String, note: String| table.row(vec![stage.to_owned(), speed, note]);
    let speed = |rate| format!("{:.1} MiB/s", mib(rate));
    let time = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    let none = String::new;
    if let Some(tree) = &o.tree {
        row("walk", format!("{:.0} entries/s", tree.walk.per_second()), none());
        tree.reading.iter().for_each(|rate| row("read", speed(*rate), none()));
    }
    let s = &o.stages;
    row("cut", speed(s.chunking), none());
    row("hash (BLAKE3)", speed(s.hashing), none());
    for level in &s.compression {
        let stage = format!("compress, {}", name(level.compression));
        row(&stage, speed(level.rate), format!("{:.2} to 1", ratio(level)));
    }
    row("encrypt", speed(s.sealing), none());
    row("hash (SHA-256)", speed(s.naming), none());
    row("decrypt, decompress", speed(s.opening), none());
    row("passphrase to key", time(s.key), format!("{} from the cache", time(s.cached_key)));
    if let Some(remote) = measured(o) {
        let at_once = if remote.parallel > 1 { format!("up to {} at once", remote.parallel) } else { none() };
        row("small request", time(remote.request), none());
        row("upload", speed(remote.upload), at_once.clone());
        row("download", speed(remote.download), at_once);
    }
    table.render(&ctx.output)
}

/// What the numbers mean, in words.
fn conclusion(o: &BenchOutcome, request: &BenchRequest) -> String {
    let e = &o.estimate;
    let time = |time: Duration| units::duration(milliseconds(time));
    let mut lines = vec![format!("state dir     {}", state_dir(o, request.state_dir.as_deref()))];
    let cores = units::count(request.threads as u64, "core");
    let stored = units::size(e.stored);
    let bound = match e.bound {
        Bound::Reading => "it waits for the disk",
        Bound::Compressing => "it waits for the processor",
        Bound::Upload => "it waits for the upload",
    };
    let what = match e.unchanged_backup {
        Some(_) => String::new(),
        None => format!("{}: ", units::size(e.bytes)),
    };
    lines.push(format!("first backup  {what}{} on {cores}, {stored} stored; {bound}", time(e.first_backup)));
    lines.extend(e.unchanged_backup.map(|unchanged| format!("no changes    {}", time(unchanged))));
    lines.push(format!("restore       {what}{} and the time to write the files", time(e.restore)));
    let fast = e.with_fast.map(|fast| format!("; fast: {}, but more is stored", time(fast)));
    lines.push(format!("advice        --compression {}{}", name(e.advice), fast.unwrap_or_default()));
    lines.extend(unmeasured(o, request));
    lines.join("\n")
}

fn state_dir(o: &BenchOutcome, path: Option<&Path>) -> String {
    let Some(tree) = &o.tree else {
        return match path {
            Some(path) => format!("there is none at {}; the sample was made up", text::show(path)),
            None => "none; the sample was made up".to_owned(),
        };
    };
    let more = if tree.complete { "" } else { "more than " };
    let mut line = format!("{more}{} in {}", units::size(tree.bytes), units::count(tree.files, "file"));
    if tree.unreadable > 0 {
        line.push_str(&format!(", and {} that cannot be read", units::count(tree.unreadable, "path")));
    }
    if !o.sample_is_real {
        line.push_str("; too little to measure with, so the sample was made up");
    }
    line
}

/// Why the conclusion says nothing of a remote.
fn unmeasured(o: &BenchOutcome, request: &BenchRequest) -> Option<String> {
    let why = match &o.remote {
        RemoteOutcome::Measured(_) => return None,
        RemoteOutcome::Missing => "there is no repository yet",
        RemoteOutcome::NotAsked if request.location.is_some() => "not asked for",
        RemoteOutcome::NotAsked => "no repository is configured",
        RemoteOutcome::Failed(_) => "it could not be measured",
    };
    Some(format!("remote        {why}: its time is not in these numbers"))
}

fn request(
    args: &Args,
    ctx: &Context,
    place: Option<&Place>,
    screen: &Arc<Screen>,
) -> Result<BenchRequest, CliError> {
    Ok(BenchRequest {
        state_dir: ctx.state_dir().ok(),
        location: place.map(|place| place.location.clone()),
        remote: !args.no_remote,
        cache_dir: settings::cache_dir(ctx)?.0,
        threads: settings::threads(ctx)?.0,
        monitor: Arc::<Screen>::clone(screen),
        clock: Arc::new(SystemClock::new()),
    })
}

fn explain(e: &AppError, place: Option<&Place>) -> CliError {
    let explained = place.and_then(|place| error::explain(e, &place.situation(String::new())));
    explained.unwrap_or_else(|| CliError::failed(e.to_string()))
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let place = match Place::of(ctx) {
        Ok(place) => Some(place),
        // Nobody asked for it, so it may be as wrong as it likes.
        Err(_) if args.no_remote => None,
        Err(e) => return Err(e),
    };
    let cancelled = interrupt::listen(OnSignal::Ask, ctx.exit);
    let screen = Arc::new(Screen::new(ctx.output.clone(), Arc::clone(&cancelled)));
    let request = request(args, ctx, place.as_ref(), &screen)?;
    let result = app::bench(&request);
    screen.finish();
    let interrupted = || CliError::new(ErrorClass::Interrupted, "interrupted before everything was measured");
    let o = match result {
        Ok(outcome) => outcome,
        Err(AppError::Interrupted) => return Err(interrupted()),
        Err(e) => return Err(explain(&e, place.as_ref())),
    };
    for left in &o.left {
        ctx.output.announce(&format!("could not be deleted: {}: {}", left.object, left.reason));
    }
    if cancelled.load(Ordering::SeqCst) {
        return Err(interrupted());
    }
    if ctx.output.json {
        ctx.output.document(&document(&o, request.threads))?;
    } else {
        ctx.output.result(&table(ctx, &o))?;
        ctx.output.summary(&format!("\n{}", conclusion(&o, &request)))?;
    }
    match &o.remote {
        RemoteOutcome::Failed(e) => Err(explain(e, place.as_ref())),
        _ => Ok(Status::Done),
    }
}
