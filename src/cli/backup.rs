//! `exuvia backup`.

use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use super::error::{CliError, Status};
use super::global::{self, Context};
use super::interrupt::OnSignal;
use super::output::Style;
use super::repository::Place;
use super::text::{self, JsonFileError};
use super::{losses, settings, units, vanished};
use crate::app::{
    self, BackupOutcome, BackupRequest, Compression, ProfileChoice, RequestCounts, Selection, Threshold,
};
use crate::config::{BackupConfig, ProfileSetting};
use crate::model::Reason;

/// Errors that the summary repeats.
pub(super) const SHOWN_ERRORS: usize = 20;

/// Take an incremental snapshot
///
/// Takes the state dir, or the PATHs. Only what changed since the last snapshot is read and stored. SQLite
/// databases are copied through SQLite's own backup interface, so that a database in use is consistent.
///
/// What matches a pattern in a file named .exuviaignore, in any directory, is left out; the syntax is
/// gitignore's.
///
/// For the state dir, the table [backup] of the configuration file says what is taken where no flag does:
/// --include, --tag, --profile and --skip-if-unchanged replace what it says, --exclude adds to it.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia backup\n  exuvia backup --tag before-upgrade\n  exuvia backup ~/notes --exclude '*.tmp' --exclude /cache"
)]
pub(super) struct Args {
    /// What to back up [default: the state dir]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Label the snapshot; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// Only these sets of OpenClaw's files: workspace, config, cron, memory, sessions, credentials, skills,
    /// hooks, extensions, env, agents, pages, transcripts
    #[arg(long, value_name = "SET,...", value_delimiter = ',')]
    include: Vec<String>,

    /// Leave out what matches this pattern in gitignore's syntax; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Leave out what matches the patterns of this file; may be given several times
    #[arg(long = "exclude-file", value_name = "FILE")]
    exclude_files: Vec<PathBuf>,

    /// Read and compress, but store nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Trust no recorded sizes and times: read every file
    #[arg(long)]
    rescan: bool,

    /// Make no snapshot when nothing differs from the last one
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_if_unchanged: Option<bool>,

    /// Why the snapshot is taken
    #[arg(long, value_enum, default_value_t = ReasonArg::Manual)]
    reason: ReasonArg,

    /// The application's own rules of what to leave out [default: auto]
    #[arg(long, value_enum)]
    profile: Option<ProfileArg>,

    /// Stay on the file system of the directory
    #[arg(long, short = 'x')]
    one_file_system: bool,

    /// Leave out the content of directories that are marked by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,

    /// Check the integrity of every database that is captured
    #[arg(long)]
    verify: bool,

    /// How hard to compress what is new
    #[arg(long, value_enum, default_value_t = CompressionArg::Default)]
    compression: CompressionArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReasonArg {
    Manual,
    Schedule,
    BeforeCompaction,
    GatewayStop,
}

impl From<ReasonArg> for Reason {
    fn from(reason: ReasonArg) -> Self {
        match reason {
            ReasonArg::Manual => Self::Manual,
            ReasonArg::Schedule => Self::Schedule,
            ReasonArg::BeforeCompaction => Self::BeforeCompaction,
            ReasonArg::GatewayStop => Self::GatewayStop,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ProfileArg {
    /// Those of the application that is recognised
    Auto,
    /// No rules
    None,
    /// OpenClaw's
    #[value(name = "openclaw")]
    OpenClaw,
}

impl From<ProfileSetting> for ProfileChoice {
    fn from(profile: ProfileSetting) -> Self {
        match profile {
            ProfileSetting::Auto => Self::Auto,
            ProfileSetting::None => Self::None,
            ProfileSetting::OpenClaw => Self::OpenClaw,
        }
    }
}

impl From<ProfileArg> for ProfileChoice {
    fn from(profile: ProfileArg) -> Self {
        match profile {
            ProfileArg::Auto => Self::Auto,
            ProfileArg::None => Self::None,
            ProfileArg::OpenClaw => Self::OpenClaw,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompressionArg {
    /// As fast as it goes, for some 4 % more bytes
    Fast,
    /// Small and fast
    Default,
    /// As small as it gets: 5 % fewer bytes for five times the processor time
    Max,
    /// Like `default`, and harder while the remote is what everything waits for
    Auto,
}

impl From<CompressionArg> for Compression {
    fn from(compression: CompressionArg) -> Self {
        match compression {
            CompressionArg::Fast => Self::Fast,
            CompressionArg::Default => Self::Default,
            CompressionArg::Max => Self::Max,
            CompressionArg::Auto => Self::Auto,
        }
    }
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    snapshot: Option<String>,
    time: String,
    parent: Option<String>,
    complete: bool,
    files: u64,
    dirs: u64,
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    files_removed: u64,
    bytes_scanned: u64,
    bytes_read: u64,
    bytes_added_raw: u64,
    bytes_added_stored: u64,
    sqlite_databases: usize,
    errors: Vec<JsonFileError<'a>>,
    duration_ms: u64,
    remote_requests: Requests,
    unchanged: bool,
    dry_run: bool,
    alarm: Vec<losses::JsonLoss>,
    vanished: Vec<vanished::JsonVanished>,
}

#[derive(Serialize)]
pub(super) struct Requests {
    put: u64,
    get: u64,
    list: u64,
    delete: u64,
    stat: u64,
}

impl From<RequestCounts> for Requests {
    fn from(counts: RequestCounts) -> Self {
        let RequestCounts { put, get, list, delete, stat, .. } = counts;
        Self { put, get, list, delete, stat }
    }
}

fn summary(o: &BackupOutcome, dry_run: bool) -> Summary<'_> {
    let stats = &o.snapshot.stats;
    Summary {
        r#type: "summary",
        snapshot: o.id.map(|id| id.to_string()),
        time: units::rfc3339(o.snapshot.time),
        parent: o.snapshot.parent.map(|id| id.to_string()),
        complete: o.snapshot.complete,
        files: stats.files,
        dirs: stats.dirs,
        files_new: stats.files_new,
        files_changed: stats.files_changed,
        files_unmodified: stats.files_unmodified,
        files_removed: stats.files_removed,
        bytes_scanned: stats.bytes,
        bytes_read: stats.bytes_read,
        bytes_added_raw: stats.bytes_added_raw,
        bytes_added_stored: stats.bytes_added_stored,
        sqlite_databases: o.snapshot.databases.len(),
        errors: o.errors.iter().map(Into::into).collect(),
        duration_ms: stats.duration_ms,
        remote_requests: o.requests.into(),
        unchanged: o.unchanged,
        dry_run,
        alarm: losses::json(&o.snapshot),
        vanished: vanished::json(&o.vanished),
    }
}

fn words(ctx: &Context, o: &BackupOutcome, dry_run: bool, warnings: u64) -> String {
    let stats = &o.snapshot.stats;
    let mut lines = vec![match o.id {
        Some(id) => format!("snapshot {}", ctx.output.paint(Style::Bold, &id.short())),
        None if dry_run => "dry run: nothing was stored".to_owned(),
        None => "nothing has changed: no snapshot was made".to_owned(),
    }];
    lines.push(format!(
        "{}: {} new, {} changed, {} unmodified, {} removed",
        units::count(stats.files, "file"),
        stats.files_new,
        stats.files_changed,
        stats.files_unmodified,
        stats.files_removed
    ));
    lines.push(format!(
        "{}: {} read, {} new, {} stored",
        units::size(stats.bytes),
        units::size(stats.bytes_read),
        units::size(stats.bytes_added_raw),
        units::size(stats.bytes_added_stored)
    ));
    let databases = o.snapshot.databases.len() as u64;
    let raw = o.snapshot.databases.iter().filter(|database| database.raw).count();
    let raw = if raw > 0 { format!(" ({raw} copied as plain files)") } else { String::new() };
    let mut last =
        format!("{}{raw}, {}", units::count(databases, "database"), units::duration(stats.duration_ms));
    if warnings > 0 {
        last = format!("{last}, {}", ctx.output.paint(Style::Yellow, &units::count(warnings, "warning")));
    }
    lines.push(last);
    if !o.errors.is_empty() {
        let count = units::count(o.errors.len() as u64, "file");
        let head = format!("incomplete: {count} could not be read");
        lines.push(ctx.output.paint(Style::Red, &head));
        lines.extend(
            o.errors.iter().take(SHOWN_ERRORS).map(|e| {
                format!("  {}: {}", text::show_entry(&e.path), text::printable(e.message.as_bytes()))
            }),
        );
        if let Some(more) = o.errors.len().checked_sub(SHOWN_ERRORS).filter(|more| *more > 0) {
            lines.push(format!("  and {more} more"));
        }
    }
    lines.join("\n")
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    let (root, paths) = source(&args.paths, ctx)?;
    let exclude_files = args.exclude_files.iter().map(|path| global::absolute(path));
    // The file speaks of the state dir, not of other directories.
    let configured = if args.paths.is_empty() { ctx.config.backup.clone() } else { BackupConfig::default() };
    let exclude = configured.exclude.into_iter().chain(args.exclude).collect();
    let request = BackupRequest {
        root,
        paths,
        selection: Selection {
            include: given(args.include, configured.include),
            exclude,
            exclude_files: exclude_files.collect::<Result<_, _>>()?,
            profile: args.profile.map_or(configured.profile.into(), Into::into),
            one_file_system: args.one_file_system,
            exclude_caches: args.exclude_caches,
        },
        tags: given(args.tags, configured.tags),
        reason: args.reason.into(),
        dry_run: args.dry_run,
        rescan: args.rescan,
        skip_if_unchanged: args.skip_if_unchanged.unwrap_or(configured.skip_if_unchanged),
        verify: args.verify,
        compression: args.compression.into(),
        alarm: Threshold::of_percent(settings::shrink_alarm(ctx).0),
    };
    let place = Place::of(ctx)?;
    // Before anything is made: a slip in the path must not leave a repository behind.
    there_is_something(&request.root, &request.paths)?;
    if !args.dry_run {
        place.make_default(ctx)?;
    }
    let obtained = place.passphrase(ctx)?;
    let opened = ctx.open_with(&place, obtained, OnSignal::Ask)?;
    let outcome = opened.run(|session| app::backup(session, &request))?;
    if outcome.snapshot.stats.files == 0 && !request.selection.include.is_empty() {
        ctx.output.warn("no file belongs to the sets that were asked for");
    }
    warn_of_losses(ctx, &outcome);
    if !outcome.vanished.is_empty() {
        let message = vanished::words(&outcome.vanished);
        if ctx.args.quiet { ctx.output.announce(&message) } else { ctx.output.warn(&message) }
    }
    if ctx.output.json {
        ctx.output.document(&summary(&outcome, args.dry_run))?;
    } else {
        ctx.output.summary(&words(ctx, &outcome, args.dry_run, opened.warnings()))?;
    }
    Ok(if outcome.errors.is_empty() && outcome.snapshot.complete { Status::Done } else { Status::Incomplete })
}

/// A flag wins over the file.
pub(super) fn given(flag: Vec<String>, configured: Vec<String>) -> Vec<String> {
    if flag.is_empty() { configured } else { flag }
}

/// Said whatever else is shown: it may be the last moment at which somebody can still act.
fn warn_of_losses(ctx: &Context, outcome: &BackupOutcome) {
    if !outcome.snapshot.is_marked() {
        return;
    }
    let parent = outcome.snapshot.parent.map(|id| id.short()).unwrap_or_default();
    let losses = losses::words(&outcome.snapshot).join("; ");
    let then = match outcome.id {
        Some(id) => format!(
            "it is marked, and both are kept until you say `exuvia snapshots --accept {}`",
            id.short()
        ),
        None => "a backup would be marked".to_owned(),
    };
    let message = format!("this snapshot has much less than {parent} before it: {losses}; {then}");
    if ctx.args.quiet { ctx.output.announce(&message) } else { ctx.output.warn(&message) }
}

/// One of several paths that is missing is told of by the snapshot; when all are, there is none.
pub(super) fn there_is_something(root: &Path, paths: &[PathBuf]) -> Result<(), CliError> {
    let missing = paths.iter().map(|path| path.symlink_metadata().map(drop).map_err(|e| (path.as_path(), e)));
    let any = |a: Result<_, _>, b: Result<_, _>| if b.is_ok() { b } else { a };
    let found = match missing.reduce(any) {
        Some(Err(first)) => Err(first),
        _ => std::fs::read_dir(root).map(drop).map_err(|e| (root, e)),
    };
    found.map_err(|(path, e)| {
        CliError::failed(format!("cannot read {}: {e}", text::show(path)))
            .hint("name what to back up: a PATH, --state-dir, or EXUVIA_STATE_DIR")
    })
}

/// The directory that entries are relative to, and what is wanted of it.
fn source(paths: &[PathBuf], ctx: &Context) -> Result<(PathBuf, Vec<PathBuf>), CliError> {
    if paths.is_empty() {
        return Ok((ctx.state_dir()?, Vec::new()));
    }
    let paths: Vec<PathBuf> = paths.iter().map(|path| global::absolute(path)).collect::<Result<_, _>>()?;
    let root = common_root(&paths, Path::is_dir);
    // Whoever names a directory and something in it wants the directory.
    let whole = paths.contains(&root);
    Ok((root, if whole { Vec::new() } else { paths }))
}

/// The deepest directory that holds all paths.
fn common_root(paths: &[PathBuf], is_dir: impl Fn(&Path) -> bool) -> PathBuf {
    let mut parts: Vec<Component<'_>> = paths.first().map(|p| p.components().collect()).unwrap_or_default();
    for path in paths {
        let same = parts.iter().zip(path.components()).take_while(|(a, b)| **a == *b).count();
        parts.truncate(same);
    }
    let root: PathBuf = parts.iter().collect();
    match root.parent() {
        // All paths are the same one, and it is no directory.
        Some(parent) if paths.contains(&root) && !is_dir(&root) => parent.to_owned(),
        _ => root,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::{
        BlobId, FileError, Loss, ManifestRef, ObjectId, RepoPath, Snapshot, Stats, Timestamp, WriterId,
    };

    #[test]
    fn the_root_holds_all_paths() {
        let root = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            common_root(&paths, |path| !path.ends_with("f")).to_string_lossy().into_owned()
        };
        for (paths, want) in [
            (&["/a/b"][..], "/a/b"),
            (&["/a/f"], "/a"),
            (&["/a/f", "/a/f"], "/a"),
            (&["/a/b/c", "/a/bc"], "/a"),
            (&["/a/b", "/a/b/c/f"], "/a/b"),
            (&["/a", "/b"], "/"),
        ] {
            assert_eq!(root(paths), want, "{paths:?}");
        }
    }

    fn outcome() -> BackupOutcome {
        BackupOutcome {
            excluded: 0,
            id: Some(ObjectId([1; 32])),
            snapshot: Snapshot {
                time: Timestamp::from_secs(1_700_000_000),
                kind: crate::model::SnapshotKind::Regular,
                reason: Reason::Manual,
                host: String::new(),
                user: String::new(),
                program: String::new(),
                writer: WriterId([0; 16]),
                sequence: 1,
                parent: None,
                root: Vec::new(),
                paths: Vec::new(),
                selection: Vec::new(),
                tags: Vec::new(),
                manifest: ManifestRef { root: BlobId([0; 32]), level: 0 },
                complete: false,
                errors: Vec::new(),
                error_count: 1,
                databases: Vec::new(),
                stats: Stats { files: 2, bytes: 3, ..Stats::default() },
                losses: vec![
                    Loss::Files { before: 9 },
                    Loss::Database { path: RepoPath::new(b"d\xff".to_vec()).unwrap(), before: 7 },
                ],
            },
            unchanged: false,
            errors: vec![FileError {
                path: RepoPath::new(b"a\xff".to_vec()).unwrap(),
                message: "no".to_owned(),
            }],
            vanished: Vec::new(),
            tables: Vec::new(),
            requests: RequestCounts { put: 3, ..RequestCounts::default() },
        }
    }

    /// The fields, and their order, on which scripts rely.
    #[test]
    fn the_summary_is_that_of_the_contract() {
        let json = serde_json::to_string(&summary(&outcome(), false)).unwrap();
        let id = "01".repeat(32);
        let want = format!(
            "{{\"type\":\"summary\",\"snapshot\":\"{id}\",\"time\":\"2023-11-14T22:13:20Z\",\"parent\":null,\
             \"complete\":false,\"files\":2,\"dirs\":0,\"files_new\":0,\"files_changed\":0,\
             \"files_unmodified\":0,\"files_removed\":0,\"bytes_scanned\":3,\"bytes_read\":0,\
             \"bytes_added_raw\":0,\"bytes_added_stored\":0,\"sqlite_databases\":0,\
             \"errors\":[{{\"path\":\"a\u{fffd}\",\"path_base64\":\"Yf8=\",\"message\":\"no\"}}],\
             \"duration_ms\":0,\"remote_requests\":{{\"put\":3,\"get\":0,\"list\":0,\"delete\":0,\"stat\":0}},\
             \"unchanged\":false,\"dry_run\":false,\
             \"alarm\":[{{\"what\":\"files\",\"before\":9,\"now\":2}},\
             {{\"what\":\"database\",\"path\":\"d\u{fffd}\",\"path_base64\":\"ZP8=\",\"before\":7,\"now\":null}}],\"vanished\":[]}}"
        );
        assert_eq!(json, want);
    }
}
