//! `exuvia forget`.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::{self, Context, Opened};
use super::interrupt::OnSignal;
use super::output::{Style, Table};
use super::{confirm, prune, text, units, vanished};
use crate::app::{self, Filter, ForgetRequest, ForgetVerdict, Group, Grouping, Judged};
use crate::config;
use crate::model::{Age, ObjectId, Policy, Snapshot, SnapshotKind};

/// Remove snapshots: those that a policy does not keep, or those that are named
///
/// A policy is judged for each machine and directory by itself. A snapshot stays when one rule keeps it. Of an hour,
/// day, week, month or year the newest complete snapshot stands for it; those that have none do not count. Always kept
/// are the newest snapshot, the newest complete one, all that the shrink alarm holds back, and all whose time is in the
/// future; no rule counts the last two. Safety snapshots are removed only by their ids, with --safety.
///
/// Without rules the policy is that of the configuration file: the table [retention], or `retention = 7`. Who would
/// remove more snapshots of a directory than are kept is asked first.
///
/// Only the records of snapshots are removed. The space is freed by a prune, which --prune runs afterwards.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia forget --keep-daily 7 --keep-weekly 4 --keep-monthly 6 --dry-run\n  exuvia forget --keep-within 14d --keep-tag release --yes --prune\n  exuvia forget --policy '{daily: 7, weekly: 4, monthly: 6}'\n  exuvia forget 3f9a1c20\n  exuvia forget --safety 3f9a1c20 77b0e4d1 --yes\n  exuvia forget --missing --dry-run"
)]
pub(super) struct Args {
    /// Ids of snapshots to be removed, or unique beginnings of them
    #[arg(value_name = "ID", required_if_eq("safety", "true"), conflicts_with = "rules")]
    ids: Vec<String>,

    /// The ids are those of safety snapshots
    #[arg(long, conflicts_with_all = ["rules", "narrowing", "force", "dry_run"])]
    safety: bool,

    /// Say of snapshots that are missing, though nobody removed them with this program, that it was on purpose
    #[arg(long, conflicts_with_all = ["ids", "safety", "rules", "narrowing", "prune"])]
    missing: bool,

    #[command(flatten)]
    rules: Rules,

    #[command(flatten)]
    narrowing: Narrowing,

    /// Show what would be kept, and why, and remove nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Then run a prune, as `exuvia prune` does; its result comes last
    #[arg(long)]
    prune: bool,

    /// Remove snapshots by their ids even when the shrink alarm holds them back
    #[arg(long, requires = "ids", conflicts_with = "rules")]
    force: bool,

    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

#[derive(clap::Args, Debug)]
#[group(id = "rules", multiple = true)]
pub(super) struct Rules {
    /// Keep the newest N
    #[arg(long, value_name = "N", value_parser = Policy::parse_count)]
    keep_last: Option<u32>,

    /// Keep one for each of the last N hours that have any; `all` for all of them
    #[arg(long, value_name = "N", value_parser = Policy::parse_count)]
    keep_hourly: Option<u32>,

    /// The same for days
    #[arg(long, value_name = "N", value_parser = Policy::parse_count)]
    keep_daily: Option<u32>,

    /// The same for weeks, which begin on Monday
    #[arg(long, value_name = "N", value_parser = Policy::parse_count)]
    keep_weekly: Option<u32>,

    /// The same for months
    #[arg(long, value_name = "N", value_parser = Policy::parse_count)]
    keep_monthly: Option<u32>,

    /// The same for years
    #[arg(long, value_name = "N", value_parser = Policy::parse_count)]
    keep_yearly: Option<u32>,

    /// Keep all that are younger than this, such as 36h, 14d, 8w or 1y6m (m: months); where backups have stopped,
    /// than this before the newest
    #[arg(long, value_name = "TIME")]
    keep_within: Option<Age>,

    /// Keep all with this label, or with all of several: `a,b`; may be given several times
    #[arg(long = "keep-tag", value_name = "TAG,...")]
    keep_tags: Vec<String>,

    /// All rules in one: a number of newest snapshots, or `{daily: 7, weekly: 4, monthly: 6}`
    #[arg(long, value_name = "POLICY", value_parser = config::retention, conflicts_with_all = [
        "keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly", "keep_within", "keep_tags",
    ])]
    policy: Option<Policy>,
}

#[derive(clap::Args, Debug)]
#[group(id = "narrowing", multiple = true)]
struct Narrowing {
    /// Judge only snapshots of this machine; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    host: Vec<String>,

    /// Judge only snapshots of this directory or file; given several times, of all of them
    #[arg(long, value_name = "PATH", conflicts_with = "ids")]
    path: Vec<PathBuf>,

    /// Judge only snapshots with this label, or with all of several: `a,b`; may be given several times
    #[arg(long = "tag", value_name = "TAG,...", conflicts_with = "ids")]
    tags: Vec<String>,

    /// Judge together what has these in common: host, paths, sets, tags, or `none` [default: host,paths,sets]
    #[arg(long, value_name = "WORD,...", conflicts_with = "ids")]
    group_by: Option<Grouping>,
}

impl Rules {
    /// `None` when no rule is given.
    pub(super) fn policy(&self) -> Result<Option<Policy>, CliError> {
        let count = |given: Option<u32>| given.unwrap_or(0);
        let policy = Policy {
            last: count(self.keep_last),
            hourly: count(self.keep_hourly),
            daily: count(self.keep_daily),
            weekly: count(self.keep_weekly),
            monthly: count(self.keep_monthly),
            yearly: count(self.keep_yearly),
            within: self.keep_within,
            tags: lists("--keep-tag", &self.keep_tags)?,
        };
        Ok(self.policy.clone().or(Some(policy)).filter(|policy| !policy.is_empty()))
    }

    pub(super) fn is_given(&self) -> bool {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        counts.iter().any(Option::is_some)
            || self.keep_within.is_some()
            || !self.keep_tags.is_empty()
            || self.policy.is_some()
    }
}

/// An empty one, as a variable that is not set makes it, is a mistake: a rule fewer removes more.
fn lists(option: &str, given: &[String]) -> Result<Vec<Vec<String>>, CliError> {
    let lists: Vec<_> = given.iter().map(|text| Policy::parse_tags(text)).collect();
    match lists.iter().any(Vec::is_empty) {
        true => Err(CliError::usage(format!("{option} needs a label"))),
        false => Ok(lists),
    }
}

impl Narrowing {
    fn filter(&self) -> Result<Filter, CliError> {
        let bytes = |path: &PathBuf| Ok(global::absolute(path)?.as_os_str().as_bytes().to_vec());
        Ok(Filter {
            hosts: self.host.clone(),
            paths: self.path.iter().map(bytes).collect::<Result<_, CliError>>()?,
            tags: lists("--tag", &self.tags)?,
        })
    }
}

/// The last line of `--json` where snapshots are named.
#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    removed: Vec<String>,
}

/// The last line of `--json` where a policy is applied.
#[derive(Serialize)]
struct Applied<'a> {
    r#type: &'static str,
    dry_run: bool,
    kept: usize,
    /// For a dry run: what would be removed.
    removed: Vec<String>,
    /// Records that cannot be read, which are kept.
    unreadable: u64,
    groups: Vec<JsonGroup<'a>>,
}

#[derive(Serialize)]
struct JsonGroup<'a> {
    host: Option<&'a str>,
    paths: Option<Vec<String>>,
    /// The same paths exactly, when one of them is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_base64: Option<Vec<String>>,
    sets: Option<&'a [String]>,
    tags: Option<&'a [String]>,
    /// Id of the writer key that made them; none when owner keys did.
    #[serde(skip_serializing_if = "Option::is_none")]
    writer_key: Option<String>,
    kept: usize,
    removed: usize,
    snapshots: Vec<JsonJudged<'a>>,
}

#[derive(Serialize)]
struct JsonJudged<'a> {
    id: String,
    time: String,
    host: &'a str,
    tags: &'a [String],
    complete: bool,
    kept: bool,
    reasons: Vec<&'static str>,
}

fn json_group<'a>(group: &'a Group, all: &'a [(ObjectId, Snapshot)]) -> JsonGroup<'a> {
    let (kept, removed) = group.counts();
    let paths = group.key.paths.as_ref().map(|(_, paths)| paths);
    let exact = |paths: &&Vec<Vec<u8>>| paths.iter().any(|path| std::str::from_utf8(path).is_err());
    JsonGroup {
        host: group.key.host.as_deref(),
        paths: paths.map(|paths| paths.iter().map(|path| text::lossy(path).0).collect()),
        paths_base64: paths
            .filter(exact)
            .map(|paths| paths.iter().map(|path| data_encoding::BASE64.encode(path)).collect()),
        sets: group.key.sets.as_deref(),
        tags: group.key.tags.as_deref(),
        writer_key: group.key.writer_key.map(|writer| writer.to_string()),
        kept,
        removed,
        snapshots: group.snapshots.iter().map(|judged| json_judged(judged, &all[judged.index])).collect(),
    }
}

fn json_judged<'a>(judged: &Judged, (id, snapshot): &'a (ObjectId, Snapshot)) -> JsonJudged<'a> {
    JsonJudged {
        id: id.to_string(),
        time: units::rfc3339(snapshot.time),
        host: &snapshot.host,
        tags: &snapshot.tags,
        complete: snapshot.complete,
        kept: judged.is_kept(),
        reasons: judged.reasons.iter().map(|reason| reason.name()).collect(),
    }
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    if args.missing {
        return settle(args, ctx);
    }
    if !args.ids.is_empty() {
        // Who needs to be asked needs to be ended by a signal; a removal is one request.
        let opened = ctx.open(OnSignal::End)?;
        return named(args, ctx, &opened).and_then(|status| then_prune(args, ctx, &opened, status));
    }
    let configured = || ctx.config.retention.clone().filter(|_| !args.rules.is_given());
    let Some(policy) = args.rules.policy()?.or_else(configured) else {
        return Err(CliError::usage("no rule says which snapshots are kept, and none is not what anybody wants")
            .hint("for example --keep-daily 7 --keep-weekly 4 --keep-monthly 6, or --keep-last 30; --dry-run shows what it does")
            .hint("the table [retention] of the configuration file says it once and for all"));
    };
    let request = ForgetRequest {
        policy,
        grouping: args.narrowing.group_by.unwrap_or_default(),
        filter: args.narrowing.filter()?,
    };
    let opened = ctx.open(OnSignal::End)?;
    by_policy(args, ctx, &opened, &request).and_then(|status| then_prune(args, ctx, &opened, status))
}

/// A dry run has forgotten nothing that a prune could tell of.
fn then_prune(args: &Args, ctx: &Context, opened: &Opened, status: Status) -> Result<Status, CliError> {
    if args.prune && !args.dry_run && status == Status::Done {
        return prune::with(&prune::Args::default(), ctx, opened);
    }
    Ok(status)
}

fn by_policy(
    args: &Args,
    ctx: &Context,
    opened: &Opened,
    request: &ForgetRequest,
) -> Result<Status, CliError> {
    let (verdict, plan) = opened.run(|session| app::forget(session, request))?;
    let (total, removed) = (verdict.snapshots.len(), verdict.targets.len());
    let asks = verdict.is_drastic() && !args.yes && !args.dry_run;
    if (args.dry_run || asks) && !ctx.output.json {
        ctx.output.result(&table(ctx, &verdict))?;
    }
    let question = format!("Remove {removed} of {} for good?", units::count(total as u64, "snapshot"));
    if asks && !confirm::ask(&question, false).map_err(|e| drastic(e, &verdict))? {
        return Err(CliError::failed("nothing was removed"));
    }
    if !args.dry_run {
        opened.run(|session| plan.run(session))?;
    }
    if ctx.output.json {
        ctx.output.document(&Applied {
            r#type: "summary",
            dry_run: args.dry_run,
            kept: total - removed,
            removed: verdict.targets.iter().map(|target| target.id().to_string()).collect(),
            unreadable: verdict.unreadable,
            groups: verdict.groups.iter().map(|group| json_group(group, &verdict.snapshots)).collect(),
        })?;
        return Ok(Status::Done);
    }
    let done = if args.dry_run { "would remove" } else { "removed" };
    ctx.output.summary(&match total {
        0 => "there is no snapshot to judge".to_owned(),
        _ => format!("{done} {removed} of {}", units::count(total as u64, "snapshot")),
    })?;
    Ok(Status::Done)
}

/// Says what the question would have been about.
fn drastic(error: CliError, verdict: &ForgetVerdict) -> CliError {
    let (total, removed) = (verdict.snapshots.len(), verdict.targets.len());
    CliError::new(
        error.class,
        format!("this would remove {removed} of {total} snapshots, more than are kept; {}", error.message),
    )
    .hint("--dry-run shows what is kept, and why; --yes says yes beforehand")
}

fn table(ctx: &Context, verdict: &ForgetVerdict) -> String {
    let mut parts = Vec::new();
    for group in &verdict.groups {
        let mut table = Table::new(&["ID", "TIME", "TAGS", "KEPT AS"], &[]);
        for judged in &group.snapshots {
            let (id, snapshot) = &verdict.snapshots[judged.index];
            let reasons: Vec<_> = judged.reasons.iter().map(|reason| reason.name()).collect();
            let mut kept = match judged.is_kept() {
                true => reasons.join(", "),
                false => ctx.output.paint(Style::Red, "(removed)"),
            };
            if !snapshot.complete {
                kept.push_str("; incomplete");
            }
            table.row(vec![
                id.short(),
                units::local(snapshot.time),
                text::printable(snapshot.tags.join(",").as_bytes()),
                kept,
            ]);
        }
        parts.push(format!(
            "{}\n{}",
            ctx.output.paint(Style::Bold, &heading(group)),
            table.render(&ctx.output)
        ));
    }
    parts.join("\n\n")
}

/// What the snapshots of a group have in common, in words.
fn heading(group: &Group) -> String {
    let mut words = Vec::new();
    let key = &group.key;
    words.extend(key.host.iter().map(|host| text::printable(host.as_bytes())));
    words.extend(key.paths.iter().flat_map(|(_, paths)| paths).map(|path| text::printable(path)));
    let listed = |list: &Option<Vec<String>>, what: &str| {
        let list = list.as_deref().filter(|list| !list.is_empty());
        list.map(|list| format!("{what} {}", text::printable(list.join(",").as_bytes())))
    };
    words.extend(listed(&key.sets, "only"));
    words.extend(listed(&key.tags, "tags"));
    words.extend(key.writer_key.map(|writer| format!("by writer key {}", writer.short())));
    let (kept, removed) = group.counts();
    let about = if words.is_empty() { "all snapshots".to_owned() } else { words.join(" ") };
    format!("{about}: {kept} kept, {removed} removed")
}

/// The last line of `--json` where what is missing is settled.
#[derive(Serialize)]
struct Settled {
    r#type: &'static str,
    dry_run: bool,
    vanished: Vec<vanished::JsonVanished>,
    gaps: Vec<JsonGap>,
}

/// Numbers of a writer's snapshots.
#[derive(Serialize)]
struct JsonGap {
    writer: String,
    first: u64,
    last: u64,
}

/// Says that what is missing was removed on purpose.
fn settle(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let opened = ctx.open(OnSignal::End)?;
    let plan = opened.run(app::missing)?;
    let mut list: Vec<String> =
        plan.vanished().iter().map(|v| format!("{} of {}", v.id.short(), units::local(v.time))).collect();
    list.extend(
        plan.gaps()
            .iter()
            .map(|gap| format!("{} to {} of writer {}", gap.first, gap.last, gap.writer.short())),
    );
    let settled = Settled {
        r#type: "summary",
        dry_run: args.dry_run,
        vanished: vanished::json(plan.vanished()),
        gaps: plan
            .gaps()
            .iter()
            .map(|gap| JsonGap { writer: gap.writer.to_string(), first: gap.first, last: gap.last })
            .collect(),
    };
    let list = list.join(", ");
    if !args.dry_run && !list.is_empty() {
        if !confirm::ask(&format!("Were these snapshots removed on purpose: {list}?"), args.yes)? {
            return Err(CliError::failed("nothing was written down"));
        }
        opened.run(|session| plan.run(session))?;
    }
    if ctx.output.json {
        ctx.output.document(&settled)?;
    } else if list.is_empty() {
        ctx.output.summary("no snapshot is missing")?;
    } else {
        let done = if args.dry_run { "missing" } else { "written down as removed" };
        ctx.output.summary(&format!("{done}: {list}"))?;
    }
    Ok(Status::Done)
}

/// Removes what is named.
fn named(args: &Args, ctx: &Context, opened: &Opened) -> Result<Status, CliError> {
    let (kind, word) = match args.safety {
        true => (SnapshotKind::Safety, "safety snapshot"),
        false => (SnapshotKind::Regular, "snapshot"),
    };
    let plan = opened.run(|session| app::forget_named(session, kind, &args.ids, args.force))?;
    let found = plan.snapshots();
    let count = units::count(found.len() as u64, word);
    let list: Vec<String> =
        found.iter().map(|(id, time)| format!("{} of {}", id.short(), units::local(*time))).collect();
    let list = list.join(", ");
    if !args.dry_run {
        if !confirm::ask(&format!("Remove {count} for good: {list}?"), args.yes)? {
            return Err(CliError::failed("nothing was removed"));
        }
        opened.run(|session| plan.run(session))?;
    }
    if ctx.output.json {
        let removed = found.iter().map(|(id, _)| id.to_string()).collect();
        ctx.output.document(&Summary { r#type: "summary", removed })?;
    } else {
        let done = if args.dry_run { "would remove" } else { "removed" };
        ctx.output.summary(&format!("{done} {count}: {list}"))?;
    }
    Ok(Status::Done)
}
