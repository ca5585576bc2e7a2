//! `exuvia repair`.

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::output::Level;
use super::{confirm, text, units};
use crate::app::{
    self, AppError, DamagedSnapshot, RepairError, RepairPacksRequest, RepairedIndex, RepairedPack,
    RepairedPacks, RepairedSnapshots,
};
use crate::model::ErrorClass;

/// Paths named for each snapshot.
const SHOWN: usize = 10;

/// Rebuild what can be rebuilt of a damaged repository
///
/// First take a backup: it stores again what was lost and is still there. Then `repair index`, `repair packs`
/// and `repair snapshots`, in this order, each with --dry-run first. Every repair writes new objects and keeps
/// what was there, until it is told otherwise.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia repair index --dry-run\n  exuvia repair index\n  exuvia repair packs\n  exuvia repair snapshots --dry-run"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    Index(IndexArgs),
    Packs(PacksArgs),
    Snapshots(SnapshotsArgs),
}

/// Make the index say what the packs say
///
/// Reads the tables of contents of packs that no index object lists, or whose index object is damaged, and drops
/// packs that are gone. Damaged index objects stay, named by the new ones as replaced.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  exuvia repair index --dry-run\n  exuvia repair index --yes")]
struct IndexArgs {
    /// Delete index objects, gc records, acceptances and removal records that cannot be read
    #[arg(long)]
    delete_damaged: bool,

    #[command(flatten)]
    how: How,
}

/// Save what verifies of damaged packs into new ones
///
/// Looks at the packs that a check, scrub or restore on this machine found damaged, and at those named. What
/// verifies is stored in new packs. The damaged ones stay, and a prune puts them away when nothing needs them.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  exuvia repair packs --dry-run\n  exuvia repair packs --read-data --yes")]
struct PacksArgs {
    /// Ids or names of packs to look at
    #[arg(value_name = "PACK")]
    packs: Vec<String>,

    /// Read all packs
    #[arg(long, conflicts_with = "packs")]
    read_data: bool,

    #[command(flatten)]
    how: How,
}

/// Make snapshots without what is lost
///
/// Each snapshot of which something is lost gets a new one beside it, with the tag `repaired`, which has
/// everything but the files that are damaged, and lists those. A file is left out whole: half a file under its
/// own name would look like all of it.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia repair snapshots --dry-run\n  exuvia repair snapshots\n  exuvia repair snapshots --forget-originals --yes"
)]
struct SnapshotsArgs {
    /// Remove the damaged snapshots that have a repaired one
    #[arg(long)]
    forget_originals: bool,

    #[command(flatten)]
    how: How,
}

#[derive(clap::Args, Debug)]
struct How {
    /// Show what would be done, and do nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    match &args.what {
        What::Index(args) => index(args, ctx),
        What::Packs(args) => packs(args, ctx),
        What::Snapshots(args) => snapshots(args, ctx),
    }
}

/// What comes next, where a repair refuses.
fn advise(error: CliError, cause: &AppError) -> CliError {
    match cause {
        AppError::Repair(RepairError::Index(_)) => {
            error.hint("`exuvia repair index` does that; then come back")
        }
        _ => error,
    }
}

fn nothing(ctx: &Context, words: &str) -> Result<Status, CliError> {
    if !ctx.output.json {
        ctx.output.summary(words)?;
    }
    Ok(Status::Done)
}

/// Asks, unless that is not wanted.
fn agreed(how: &How, question: &str) -> Result<(), CliError> {
    if confirm::ask(question, how.yes)? { Ok(()) } else { Err(CliError::failed("nothing was changed")) }
}

fn done(whole: bool) -> Status {
    if whole { Status::Done } else { Status::Bad(ErrorClass::Damaged) }
}

#[derive(Serialize)]
struct IndexSummary<'a> {
    r#type: &'static str,
    dry_run: bool,
    damaged: &'a [String],
    damaged_records: &'a [String],
    packs_gone: &'a [String],
    packs_misdescribed: &'a [String],
    packs_unlisted: u64,
    packs_indexed: u64,
    packs_unreadable: Vec<Unreadable<'a>>,
    objects_written: u64,
    objects_deleted: u64,
}

#[derive(Serialize)]
struct Unreadable<'a> {
    object: &'a str,
    message: &'a str,
}

fn index_summary(o: &RepairedIndex, dry_run: bool) -> IndexSummary<'_> {
    IndexSummary {
        r#type: "summary",
        dry_run,
        damaged: &o.damaged,
        damaged_records: &o.damaged_records,
        packs_gone: &o.gone,
        packs_misdescribed: &o.misdescribed,
        packs_unlisted: o.unlisted,
        packs_indexed: o.indexed,
        packs_unreadable: o
            .unreadable
            .iter()
            .map(|(object, message)| Unreadable { object, message })
            .collect(),
        objects_written: o.written,
        objects_deleted: o.deleted,
    }
}

fn index_plan(o: &RepairedIndex) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(o.damaged.iter().map(|name| format!("damaged      {name}")));
    lines.extend(o.damaged_records.iter().map(|name| format!("damaged      {name}")));
    lines.extend(o.gone.iter().map(|name| format!("gone         {name}")));
    lines.extend(o.misdescribed.iter().map(|name| format!("misdescribed {name}")));
    if o.unlisted > 0 {
        lines.push(format!("not in index {}", units::count(o.unlisted, "pack")));
    }
    lines.join("\n")
}

fn index(args: &IndexArgs, ctx: &Context) -> Result<Status, CliError> {
    let opened = ctx.open(OnSignal::Ask)?;
    let plan = opened.run(|session| app::repair_index(session, args.delete_damaged))?;
    let planned = plan.outcome();
    if !ctx.output.json && !index_plan(&planned).is_empty() {
        ctx.output.result(&index_plan(&planned))?;
    }
    if plan.is_empty() || args.how.dry_run {
        if ctx.output.json {
            ctx.output.document(&index_summary(&planned, true))?;
            return Ok(Status::Done);
        }
        return nothing(
            ctx,
            match plan.is_empty() {
                true => "the index agrees with the packs: nothing to repair",
                false => "nothing was changed",
            },
        );
    }
    agreed(&args.how, "Write a new index from the packs?")?;
    let o = opened.run(|session| plan.run(session))?;
    if ctx.output.json {
        ctx.output.document(&index_summary(&o, false))?;
    } else {
        for (name, message) in &o.unreadable {
            ctx.output.line(Level::Warning, None, &format!("{name} cannot be indexed: {message}"));
        }
        let put_right = match o.misdescribed.len() as u64 {
            0 => String::new(),
            n => format!(", put right {}", units::count(n, "pack")),
        };
        ctx.output.summary(&format!(
            "indexed {}{put_right}, dropped {}; {} written, {} deleted",
            units::count(o.indexed, "pack"),
            units::count(o.gone.len() as u64, "pack"),
            units::count(o.written, "index object"),
            units::count(o.deleted, "object"),
        ))?;
    }
    Ok(done(o.unreadable.is_empty()))
}

#[derive(Serialize)]
struct PacksSummary<'a> {
    r#type: &'static str,
    dry_run: bool,
    packs: Vec<JsonPack<'a>>,
    packs_written: u64,
    bytes_written: u64,
}

#[derive(Serialize)]
struct JsonPack<'a> {
    object: &'a str,
    message: &'a str,
    gone: bool,
    blobs_saved: u64,
    blobs_lost: u64,
}

impl<'a> From<&'a RepairedPack> for JsonPack<'a> {
    fn from(p: &'a RepairedPack) -> Self {
        let RepairedPack { pack, message, saved, lost, gone } = p;
        Self { object: pack, message, gone: *gone, blobs_saved: *saved, blobs_lost: *lost }
    }
}

fn packs_summary(o: &RepairedPacks, dry_run: bool) -> PacksSummary<'_> {
    PacksSummary {
        r#type: "summary",
        dry_run,
        packs: o.packs.iter().map(Into::into).collect(),
        packs_written: o.written,
        bytes_written: o.bytes_written,
    }
}

fn packs_plan(o: &RepairedPacks) -> String {
    let line = |p: &RepairedPack| {
        let (saved, lost) = (units::count(p.saved, "blob"), units::count(p.lost, "blob"));
        format!("{} {}\n  can be saved: {saved}; lost: {lost}", p.pack, text::printable(p.message.as_bytes()))
    };
    o.packs.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn packs(args: &PacksArgs, ctx: &Context) -> Result<Status, CliError> {
    let opened = ctx.open(OnSignal::Ask)?;
    let repair = |dry_run, all| {
        let request = RepairPacksRequest { named: args.packs.clone(), all, dry_run };
        opened.run_advised(advise, |session| app::repair_packs(session, &request))
    };
    let planned = repair(true, args.read_data)?;
    if !ctx.output.json && !planned.packs.is_empty() {
        ctx.output.result(&packs_plan(&planned))?;
    }
    if planned.packs.is_empty() || args.how.dry_run {
        if ctx.output.json {
            ctx.output.document(&packs_summary(&planned, true))?;
            return Ok(Status::Done);
        }
        return nothing(
            ctx,
            match (planned.packs.is_empty(), args.read_data) {
                (true, true) => "no pack is damaged: nothing to repair",
                (true, false) => "no damaged pack is known; --read-data looks at all of them",
                (false, _) => "nothing was changed",
            },
        );
    }
    agreed(&args.how, "Store what can be saved in new packs?")?;
    // What all of the reading found is remembered.
    let o = repair(false, false)?;
    let count = |of: fn(&RepairedPack) -> u64| o.packs.iter().map(of).sum::<u64>();
    let (saved, lost) = (count(|p| p.saved), count(|p| p.lost));
    if ctx.output.json {
        ctx.output.document(&packs_summary(&o, false))?;
    } else {
        ctx.output.summary(&format!(
            "saved {} of {} in {} ({}); {} lost",
            units::count(saved, "blob"),
            units::count(o.packs.len() as u64, "pack"),
            units::count(o.written, "new pack"),
            units::size(o.bytes_written),
            units::count(lost, "blob")
        ))?;
    }
    Ok(done(lost == 0))
}

#[derive(Serialize)]
struct SnapshotsSummary<'a> {
    r#type: &'static str,
    dry_run: bool,
    checked: u64,
    snapshots: Vec<JsonSnapshot<'a>>,
}

#[derive(Serialize)]
struct JsonSnapshot<'a> {
    id: String,
    object: &'a str,
    repaired: Option<String>,
    repaired_before: bool,
    files: u64,
    lost_count: u64,
    lost: Vec<JsonLost<'a>>,
    hopeless: Option<&'a str>,
    forgotten: bool,
}

#[derive(Serialize)]
struct JsonLost<'a> {
    #[serde(flatten)]
    path: text::JsonPath,
    message: &'a str,
}

impl<'a> From<&'a DamagedSnapshot> for JsonSnapshot<'a> {
    fn from(s: &'a DamagedSnapshot) -> Self {
        let lost = s.lost.iter().map(|l| JsonLost { path: l.path.as_bytes().into(), message: &l.message });
        Self {
            id: s.id.to_string(),
            object: &s.name,
            repaired: s.repaired.map(|id| id.to_string()),
            repaired_before: s.earlier,
            files: s.files,
            lost_count: s.lost_count,
            lost: lost.collect(),
            hopeless: s.hopeless.as_deref(),
            forgotten: s.forgotten,
        }
    }
}

fn snapshots_summary(o: &RepairedSnapshots, dry_run: bool) -> SnapshotsSummary<'_> {
    SnapshotsSummary {
        r#type: "summary",
        dry_run,
        checked: o.checked,
        snapshots: o.snapshots.iter().map(Into::into).collect(),
    }
}

fn snapshots_plan(o: &RepairedSnapshots) -> String {
    let mut lines = Vec::new();
    for s in &o.snapshots {
        let what = match (&s.hopeless, s.repaired) {
            (Some(why), _) => format!("nothing can be saved: {}", text::printable(why.as_bytes())),
            (None, Some(id)) => format!("has a repaired one: {}", id.short()),
            (None, None) => {
                let kept = units::count(s.files, "file");
                format!("{kept} can be kept, {} lost", units::count(s.lost_count, "path"))
            }
        };
        lines.push(format!("{} {what}", s.id.short()));
        for lost in s.lost.iter().take(SHOWN) {
            let path = text::printable(lost.path.to_string().as_bytes());
            lines.push(format!("  {path}: {}", text::printable(lost.message.as_bytes())));
        }
        let more = s.lost_count.saturating_sub(SHOWN as u64);
        if more > 0 {
            lines.push(format!("  and {} more", units::count(more, "path")));
        }
    }
    lines.join("\n")
}

fn snapshots(args: &SnapshotsArgs, ctx: &Context) -> Result<Status, CliError> {
    let opened = ctx.open(OnSignal::Ask)?;
    let repair = |dry_run| {
        opened.run_advised(advise, |session| app::repair_snapshots(session, args.forget_originals, dry_run))
    };
    let planned = repair(true)?;
    let to_do = |s: &&DamagedSnapshot| s.hopeless.is_none() && (!s.earlier || args.forget_originals);
    let count = planned.snapshots.iter().filter(to_do).count() as u64;
    let hopeless = planned.snapshots.iter().filter(|s| s.hopeless.is_some()).count();
    if !ctx.output.json && !planned.snapshots.is_empty() {
        ctx.output.result(&snapshots_plan(&planned))?;
    }
    if count == 0 || args.how.dry_run {
        if ctx.output.json {
            ctx.output.document(&snapshots_summary(&planned, true))?;
        } else {
            ctx.output.summary(&match (planned.snapshots.is_empty(), count) {
                (true, _) => {
                    format!(
                        "nothing is lost of {}: nothing to repair",
                        units::count(planned.checked, "snapshot")
                    )
                }
                (false, 0) => "there is nothing more that can be done".to_owned(),
                (false, _) => "nothing was changed".to_owned(),
            })?;
        }
        return Ok(done(args.how.dry_run || hopeless == 0));
    }
    let question = match args.forget_originals {
        false => format!("Make new snapshots beside {}?", units::count(count, "damaged one")),
        true => format!("Replace {} for good?", units::count(count, "damaged snapshot")),
    };
    agreed(&args.how, &question)?;
    let o = repair(false)?;
    if ctx.output.json {
        ctx.output.document(&snapshots_summary(&o, false))?;
    } else {
        let made = o.snapshots.iter().filter(|s| s.repaired.is_some() && !s.earlier);
        let made: Vec<String> = made.filter_map(|s| s.repaired.map(|id| id.short())).collect();
        let forgotten = o.snapshots.iter().filter(|s| s.forgotten).count() as u64;
        ctx.output.summary(&format!(
            "made {}{}{}; {} removed",
            units::count(made.len() as u64, "repaired snapshot"),
            if made.is_empty() { "" } else { ": " },
            made.join(", "),
            units::count(forgotten, "damaged one")
        ))?;
    }
    Ok(done(o.snapshots.iter().all(|s| s.hopeless.is_none())))
}
