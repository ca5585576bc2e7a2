//! The block of `openclaw-b2-backup`.

use super::block::Block;
use super::text::Text;
use super::{Fate, ImportError, Passphrase, Report, Site};
use crate::config::draft::{Draft, Value};
use crate::model::Schedule;

/// The folder of its snapshots, when the block does not say.
const PREFIX: &str = "openclaw-backup";
/// What a repository is called beside an earlier tool's objects.
pub(super) const OWN_FOLDER: &str = "exuvia";
/// The plugin takes every folder beside its snapshots for one of them, and removes the oldest.
const APART: &str =
    "the repository gets a folder of its own, apart from the plugin's snapshots: it would remove it there";
pub(super) const OWN_FOLDER_WORDS: &str =
    "the repository gets a folder of its own in it, beside the plugin's snapshots, which stay as they are";

pub(super) fn read(
    mut block: Block,
    site: &Site<'_>,
    draft: &mut Draft,
    report: &mut Report,
) -> Result<Passphrase, ImportError> {
    let endpoint = block.text("endpoint", report);
    let region = block.text("region", report);
    // Its own interface finds the region by itself; the one that speaks S3 is asked for by its address.
    if let Some(endpoint) = &endpoint {
        draft.set("remote.provider", Value::text("s3"));
        draft.set("remote.endpoint", endpoint.value());
        report.taken("endpoint", "remote.endpoint");
        if let Some(region) = &region {
            draft.set("remote.region", region.value());
            report.taken("region", "remote.region");
        }
    } else {
        draft.set("remote.provider", Value::text("b2"));
        if region.is_some() {
            report.unneeded("region", "B2 tells the region of a bucket by itself");
        }
    }
    for (key, variable, to) in [
        ("keyId", "B2_APPLICATION_KEY_ID", "remote.key_id"),
        ("applicationKey", "B2_APPLICATION_KEY", "remote.secret"),
        ("bucket", "B2_BUCKET_NAME", "remote.bucket"),
    ] {
        if let Some(text) = block.text(key, report) {
            draft.set(to, text.value());
            report.taken(key, to);
        } else if site.env.get(variable).is_some() {
            draft.set(to, Value::expression(format!("${{{variable}}}")));
            report.note(format!(
                "{key} is not in the block; the plugin takes it from {variable}, and so does {to}"
            ));
        } else {
            let what = format!("put it into the block, or set {variable}");
            return Err(ImportError::Missing { key, what });
        }
    }
    let prefix = block.text("prefix", report);
    if prefix.is_some() {
        report.say("prefix", Fate::Changed, Some("remote.prefix"), APART);
    } else {
        report.note(format!(
            "prefix is not in the block: the repository goes to {OWN_FOLDER}/{PREFIX}, apart from the plugin's snapshots"
        ));
    }
    let prefix = prefix.unwrap_or_else(|| Text::literal(PREFIX));
    draft.set("remote.prefix", prefix.below(&Text::literal(OWN_FOLDER)).value());
    schedule(&mut block, draft, report);
    match block.switch("encrypt", report) {
        Some(true) => report.unneeded("encrypt", "everything is encrypted, always"),
        Some(false) => report.say("encrypt", Fate::Changed, None, "everything is encrypted, always"),
        None => {}
    }
    keep(&mut block, draft, report);
    if block.number("keepSafetySnapshots", report).is_some() {
        report.unneeded("keepSafetySnapshots", "no policy removes safety snapshots");
    }
    block.finish(&[], Fate::Unknown, "", report);
    // The plugin does these without being asked.
    draft.set("start.auto_restore", Value::Switch(true));
    report.note(
        "like the plugin, the daemon restores the newest snapshot into an empty state dir (start.auto_restore)",
    );
    report.note(
        "the plugin leaves out credentials and auth profiles; a snapshot has them, encrypted like all the rest",
    );
    report.note(
        "the plugin's key came from applicationKey; a repository has a key of its own, so that a new \
         applicationKey opens no less, and the storage provider's key opens nothing",
    );
    Ok(Passphrase::Generate)
}

fn schedule(block: &mut Block, draft: &mut Draft, report: &mut Report) {
    const TO: &str = "schedule.backup";
    let Some(word) = block.word("schedule", report) else {
        draft.set(TO, Value::text("daily 00:00"));
        report.note("schedule is not in the block: schedule.backup is midnight, as the plugin has it");
        return;
    };
    let (text, dropped) = match word.trim() {
        "daily" | "@daily" | "@midnight" => ("daily 00:00".to_owned(), false),
        "weekly" | "@weekly" => ("weekly sun 00:00".to_owned(), false),
        "@hourly" => ("cron 0 * * * *".to_owned(), false),
        "@monthly" => ("cron 0 0 1 * *".to_owned(), false),
        "@yearly" | "@annually" => ("cron 0 0 1 1 *".to_owned(), false),
        cron => {
            let fields: Vec<&str> = cron.split_whitespace().collect();
            // Six begin with seconds.
            let minutes = if fields.len() == 6 { &fields[1..] } else { &fields[..] };
            (format!("cron {}", minutes.join(" ")), fields.len() == 6)
        }
    };
    match text.parse::<Schedule>() {
        Ok(_) => {
            let fate = if dropped { Fate::Changed } else { Fate::Taken };
            let words = if dropped { format!("{text}; seconds are left out") } else { text.clone() };
            report.say("schedule", fate, Some(TO), words);
            draft.set(TO, Value::text(text));
        }
        Err(e) => {
            report.wrong("schedule", &format!("as a schedule it {e}; schedule.backup is daily 00:00"));
            draft.set(TO, Value::text("daily 00:00"));
        }
    }
}

fn keep(block: &mut Block, draft: &mut Draft, report: &mut Report) {
    match block.number("keepSnapshots", report) {
        Some(number @ 1..=1_000_000) => {
            draft.set("retention", Value::Number(number));
            report.taken("keepSnapshots", "retention");
        }
        Some(0) => report.unneeded("keepSnapshots", "without a retention, all are kept"),
        Some(_) => report.wrong("keepSnapshots", "it is no number of snapshots; all are kept"),
        None => report.note(
            "keepSnapshots is not in the block: the plugin kept 10, this program keeps all until `retention` says \
             otherwise",
        ),
    }
}
