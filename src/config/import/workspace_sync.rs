//! The block of `openclaw-workspace-sync`: nested (`sync` and `backup`), or flat.

mod place;
mod rules;

use serde_json::Map;

use self::place::Destination;
use super::block::Block;
use super::{Fate, ImportError, Passphrase, Report, Site};
use crate::config::draft::{Draft, Value};

/// Keys that say where a backup goes or what it is; in a flat block they are at its top.
const BACKUP_ONLY: [&str; 6] = ["bucket", "prefix", "encrypt", "passphrase", "include", "retain"];
/// All that says how a workspace is synchronised.
const SYNC: [&str; 22] = [
    "provider",
    "mode",
    "ingest",
    "ingestPath",
    "notifyOnInbox",
    "remotePath",
    "localPath",
    "interval",
    "timeout",
    "onSessionStart",
    "onSessionEnd",
    "remoteName",
    "configPath",
    "conflictResolve",
    "exclude",
    "copySymlinks",
    "enabled",
    "s3",
    "dropbox",
    "gdrive",
    "onedrive",
    "custom",
];
const LATER: &str = "workspace sync is not there yet; a later version has it";

/// The two halves of a block, in either form.
struct Halves {
    /// What says where backups go, and when.
    backup: Block,
    /// What says how the workspace is synchronised, and stands in where the other half says nothing.
    sync: Option<Block>,
}

pub(super) fn read(
    block: Block,
    site: &Site<'_>,
    draft: &mut Draft,
    report: &mut Report,
) -> Result<Passphrase, ImportError> {
    let Halves { mut backup, mut sync } = halves(block, report);
    let synced = synced(&backup, sync.as_ref());
    let place = place::remote(&mut backup, sync.as_mut(), site, draft, report)?;
    rules::schedule(&mut backup, draft, report);
    rules::include(&mut backup, draft, report);
    rules::exclude(&mut backup, sync.as_mut(), draft, report);
    rules::retain(&mut backup, draft, report);
    let passphrase = rules::passphrase(&mut backup, draft, report);
    match backup.switch("enabled", report) {
        Some(false) => {
            draft.set("schedule.backup", Value::text("off"));
            let words = "the plugin made no backups, so `exuvia daemon` makes none until you change it";
            report.say(&backup.name("enabled"), Fate::Taken, Some("schedule.backup"), words);
        }
        Some(true) => report.unneeded(&backup.name("enabled"), "this program backs up when it is run"),
        None => {}
    }
    if let Some(synced) = synced
        && synced.holds(&place)
    {
        report.note(format!(
            "the plugin's workspace sync deletes what it does not know below its remotePath, and the repository \
             would lie there ({}): let it lie elsewhere ([remote] says where), or give the plugin a remotePath of its \
             own, before the first backup",
            place.shown()
        ));
    }
    backup.finish(&SYNC, Fate::Later, LATER, report);
    if let Some(sync) = sync {
        sync.finish(&SYNC, Fate::Later, LATER, report);
    }
    report
        .note("the plugin's own snapshots stay where they are; this program makes a repository beside them");
    Ok(passphrase)
}

/// Where the plugin synchronises to, in either form of its block.
fn synced(backup: &Block, sync: Option<&Block>) -> Option<Destination> {
    match sync {
        Some(sync) => Destination::of_sync(sync),
        // Only what synchronises has a mode.
        None => backup.has("mode").then(|| Destination::of_sync(backup)).flatten(),
    }
}

fn halves(mut block: Block, report: &mut Report) -> Halves {
    let flat = ["provider", "mode", "remotePath", "interval"].iter().any(|key| block.has(key));
    let flat = flat || BACKUP_ONLY.iter().any(|key| block.has(key));
    let backup = block.object("backup", report);
    let sync = block.object("sync", report);
    match (backup, sync) {
        (Some(backup), Some(sync)) => {
            block.finish(&SYNC, Fate::Later, LATER, report);
            Halves { backup, sync: Some(sync) }
        }
        (Some(backup), None) => Halves { backup, sync: Some(block) },
        (None, sync) if flat && sync.is_none() => {
            // Without a word of backups it says how to synchronise.
            if BACKUP_ONLY.iter().any(|key| block.has(key)) {
                Halves { backup: block, sync: None }
            } else {
                Halves { backup: Block::new("backup.", Map::new()), sync: Some(block) }
            }
        }
        (None, sync) => {
            block.finish(&SYNC, Fate::Later, LATER, report);
            Halves { backup: Block::new("backup.", Map::new()), sync }
        }
    }
}
