//! `exuvia full create`.

use std::path::PathBuf;

use serde::Serialize;

use super::super::backup::{self, ProfileArg, Requests, SHOWN_ERRORS};
use super::super::error::{CliError, Status};
use super::super::global::{self, Context, Opened};
use super::super::interrupt::OnSignal;
use super::super::output::{Level, Style};
use super::super::repository::Place;
use super::super::text::{self, JsonFileError};
use super::super::units;
use super::{Form, openssl};
use crate::app::{self, FullCreateRequest, FullCreated, Selection};
use crate::model::{ArchiveForm, ErrorClass, Policy};

/// Stream the state dir into an archive of the repository
///
/// Takes what a backup would take. SQLite databases are copied through SQLite's own backup interface, in one
/// transaction each. Nothing is written to this machine's disk, and memory stays below 64 MiB.
///
/// A source file that ends before the length that was written for it is filled with zeros; the archive is marked as
/// incomplete then, and the exit code is 3.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia full create\n  exuvia full create --form openssl --tag monthly\n  exuvia full create --include config,memory"
)]
pub(super) struct Args {
    #[command(flatten)]
    form: Form,

    /// Label the archive; may be given several times
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

    /// The application's own rules of what to leave out [default: auto]
    #[arg(long, value_enum)]
    profile: Option<ProfileArg>,

    /// Stay on the file system of the state dir
    #[arg(long, short = 'x')]
    one_file_system: bool,

    /// Leave out the content of directories that are marked by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,

    /// Then remove the archives that `retention` of the table [full] does not keep; without one, none. Where that
    /// fails, it is a warning: the archive is stored
    #[arg(long)]
    prune: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    archive: String,
    form: &'static str,
    time: String,
    complete: bool,
    members: u64,
    files: u64,
    bytes: u64,
    tar_bytes: u64,
    stored_bytes: u64,
    sha256: String,
    sqlite_databases: u64,
    errors: Vec<JsonFileError<'a>>,
    error_count: u64,
    duration_ms: u64,
    remote_requests: Requests,
}

fn summary(o: &FullCreated) -> Summary<'_> {
    let mark = &o.mark;
    Summary {
        r#type: "summary",
        archive: mark.name.to_string(),
        form: mark.name.form().name(),
        time: units::rfc3339(mark.time),
        complete: mark.complete,
        members: mark.members,
        files: mark.files,
        bytes: mark.bytes,
        tar_bytes: mark.tar_bytes,
        stored_bytes: mark.size,
        sha256: data_encoding::HEXLOWER.encode(&mark.sha256),
        sqlite_databases: o.databases,
        errors: mark.errors.iter().map(Into::into).collect(),
        error_count: mark.error_count,
        duration_ms: o.duration_ms,
        remote_requests: o.requests.into(),
    }
}

fn words(ctx: &Context, o: &FullCreated) -> String {
    let mark = &o.mark;
    let name = ctx.output.paint(Style::Bold, &mark.name.to_string());
    let mut lines = vec![
        format!("archive {name}"),
        format!(
            "{}, {}: {}, {} stored, {}",
            units::count(mark.files, "file"),
            units::count(o.databases, "database"),
            units::size(mark.bytes),
            units::size(mark.size),
            units::duration(o.duration_ms)
        ),
    ];
    if mark.error_count > 0 {
        let head = format!("incomplete: {}", units::count(mark.error_count, "error"));
        lines.push(ctx.output.paint(Style::Red, &head));
        let shown = mark.errors.iter().take(SHOWN_ERRORS);
        lines.extend(
            shown.map(|e| {
                format!("  {}: {}", text::show_entry(&e.path), text::printable(e.message.as_bytes()))
            }),
        );
        if let Some(more) = mark.error_count.checked_sub(SHOWN_ERRORS as u64).filter(|more| *more > 0) {
            lines.push(format!("  and {more} more"));
        }
    }
    lines.join("\n")
}

/// What goes wrong here is no failure of what was asked for: who took it for one would make the archive again.
fn prune(ctx: &Context, opened: &Opened, policy: &Policy) -> Result<(), CliError> {
    let (level, words) = match opened.run(|session| app::full_prune_after(session, policy)) {
        Ok(Some(freed)) => (Level::Note, format!("the retention of archives freed {}", units::size(freed))),
        Ok(None) => (
            Level::Note,
            "older archives are left to who has an owner key: this one cannot judge them".into(),
        ),
        Err(error) if error.class == ErrorClass::Interrupted => return Err(error),
        Err(error) => (
            Level::Warning,
            format!("the archive is stored, but older ones were not pruned: {}", error.message),
        ),
    };
    ctx.output.line(level, None, &words);
    Ok(())
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    let root = ctx.state_dir()?;
    let exclude_files = args.exclude_files.iter().map(|path| global::absolute(path));
    let configured = ctx.config.backup.clone();
    let form = args.form.form(ctx);
    let selection = Selection {
        include: backup::given(args.include, configured.include),
        exclude: configured.exclude.into_iter().chain(args.exclude).collect(),
        exclude_files: exclude_files.collect::<Result<_, _>>()?,
        profile: args.profile.map_or(configured.profile.into(), Into::into),
        one_file_system: args.one_file_system,
        exclude_caches: args.exclude_caches,
    };
    let place = Place::of(ctx)?;
    // Before anything is made: a slip in the path must not leave a repository behind.
    backup::there_is_something(&root, &[])?;
    place.make_default(ctx)?;
    let obtained = place.passphrase(ctx)?;
    Form::warn(form, ctx);
    let passphrase = match form {
        ArchiveForm::Openssl => openssl(ctx, Some(&obtained.passphrase))?,
        _ => None,
    };
    let tags = backup::given(args.tags, configured.tags);
    let request = FullCreateRequest { root, selection, tags, form, passphrase };
    let opened = ctx.open_with(&place, obtained, OnSignal::Ask)?;
    let outcome = opened.run(|session| app::full_create(session, &request))?;
    if ctx.output.json {
        ctx.output.document(&summary(&outcome))?;
    } else {
        ctx.output.summary(&words(ctx, &outcome))?;
    }
    if let Some(policy) = ctx.config.full.retention.as_ref().filter(|_| args.prune) {
        prune(ctx, &opened, policy)?;
    }
    Ok(if outcome.mark.complete { Status::Done } else { Status::Incomplete })
}
