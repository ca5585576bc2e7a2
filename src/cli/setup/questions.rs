//! What each question says, offers, and explains.

use super::wizard::{Ask, Facts, Form, Found, Question, places};

/// How many of the newest snapshots stand beside the daily ones: a day of hours.
const RETENTION: &str = "{last: 24, daily: 7, weekly: 4, monthly: 6}";

/// A question. `place`: what is known of the place by now; `found`: what is there.
pub(super) fn of(ask: Ask, facts: &Facts, place: Option<&str>, found: Option<Found>) -> Question {
    let (words, default, form, help, flag) = match ask {
        Ask::Import => (
            format!("Use the settings of {}?", facts.plugin.as_deref().unwrap_or("the earlier plugin")),
            Some("yes".to_owned()),
            Form::YesNo,
            "An earlier backup plugin is configured in openclaw.json. Its storage, schedule and retention are taken over; \
             the file itself stays as it is. `exuvia config import --dry-run` shows what becomes of every key.",
            "--import yes or --import no",
        ),
        Ask::StateDir => state_dir(facts),
        Ask::Place => (
            "Where should snapshots be kept?".to_owned(),
            Some("local".to_owned()),
            Form::Choice(places()),
            "Everything is encrypted before it leaves this machine. A folder on the same disk helps against mistakes; \
             only another disk or a storage service helps when the disk dies.",
            "--repo or --remote-provider",
        ),
        Ask::Folder => (
            "Which folder?".to_owned(),
            Some(facts.folder.to_string_lossy().into_owned()),
            Form::Text,
            "A folder for the repository alone; it is made if it is missing. A repository that is there already is \
             opened, not replaced. It must not lie in the state dir.",
            "--repo",
        ),
        Ask::Endpoint => (
            "The service's address (none: Amazon)?".to_owned(),
            Some(String::new()),
            Form::Text,
            "Such as https://ACCOUNT.r2.cloudflarestorage.com or http://nas:9000. Leave it empty for Amazon S3.",
            "--remote-endpoint",
        ),
        Ask::Region => (
            "Region (none: the service's own)?".to_owned(),
            Some(String::new()),
            Form::Text,
            "Such as eu-central-1. Many services that are not Amazon need none.",
            "--remote-region",
        ),
        Ask::Bucket => (
            "Which bucket?".to_owned(),
            None,
            Form::Text,
            "The bucket must exist: keys for backups should not be able to make buckets. A key that cannot delete is \
             enough for backups; `exuvia prune` needs one that can.",
            "--remote-bucket",
        ),
        Ask::KeyId => (
            "Id of the key?".to_owned(),
            (place == Some("s3")).then(String::new),
            Form::Text,
            "The access key id (S3), or the application key's id (B2). At Amazon it may be empty: then keys are looked \
             for as Amazon's own tools do.",
            "--remote-key-id",
        ),
        Ask::Secret => (
            "Its secret (does not show)?".to_owned(),
            (place == Some("s3")).then(String::new),
            Form::Hidden,
            "The secret access key (S3), or the application key (B2). It is written to the configuration file, which \
             only you can read.",
            "--remote-secret-file",
        ),
        Ask::Login => (
            "How to log in?".to_owned(),
            Some("browser".to_owned()),
            Form::Choice(vec![
                ("browser".to_owned(), "in a browser on this machine, by `rclone authorize`".to_owned()),
                ("token".to_owned(), "paste the token that `rclone authorize` printed elsewhere".to_owned()),
            ]),
            "The service is asked, through rclone, for a token that opens your drive. On a machine without a browser, run \
             `rclone authorize` with dropbox, drive or onedrive on one that has a browser, and paste what it prints.",
            "--remote-token-file",
        ),
        Ask::Token => (
            "The token (does not show)?".to_owned(),
            None,
            Form::Hidden,
            "What `rclone authorize` prints between the arrows, from { to }.",
            "--remote-token-file",
        ),
        Ask::DriveId => (
            "Id of the drive?".to_owned(),
            None,
            Form::Text,
            "OneDrive has several. `rclone config` finds them and writes drive_id and drive_type to its own \
             configuration, which `rclone config show` shows.",
            "--remote-drive-id",
        ),
        Ask::DriveType => (
            "Kind of the drive?".to_owned(),
            Some("personal".to_owned()),
            Form::Choice(
                ["personal", "business", "documentLibrary"]
                    .map(|name| (name.to_owned(), String::new()))
                    .into(),
            ),
            "What `rclone config show` calls drive_type.",
            "--remote-drive-type",
        ),
        Ask::Remote => remote(facts),
        Ask::Prefix => (
            "Which folder in it?".to_owned(),
            Some("exuvia".to_owned()),
            Form::Text,
            "The folder of the repository in the bucket or drive. Another machine's repository needs another folder, or \
             use one together: then they share what is equal.",
            "--remote-prefix",
        ),
        Ask::Opens | Ask::PassphraseFile | Ask::Typed | Ask::Keep | Ask::KeepFile => {
            return passphrase(ask, facts, found);
        }
        Ask::Recovery => (
            "Print a recovery phrase?".to_owned(),
            Some("yes".to_owned()),
            Form::YesNo,
            "Twelve words that open the repository like a passphrase. They are shown once, for paper: the machine that \
             knows the passphrase may be the one that is lost.",
            "--yes makes none; `exuvia key recovery` does",
        ),
        Ask::Schedule => (
            "How often?".to_owned(),
            Some("1h".to_owned()),
            Form::Text,
            "An interval (15m, 1h, 1d), a time of the day (daily 03:30), of the week (weekly sun 04:00), a cron \
             expression (cron 30 3 * * 1-5), or off. A backup that finds nothing new takes a fraction of a second.",
            "--schedule",
        ),
        Ask::Retention => (
            "Which snapshots to keep?".to_owned(),
            Some(RETENTION.to_owned()),
            Form::Text,
            "How many to keep of the newest ones, and one each for so many hours, days, weeks, months, years: \
             {last: 24, daily: 7}. A number alone keeps so many of the newest; all keeps everything.",
            "--keep-daily and its kin",
        ),
        Ask::FirstBackup => (
            "Take the first snapshot now?".to_owned(),
            Some("yes".to_owned()),
            Form::YesNo,
            "Without it the first one is taken when the schedule begins, or by `exuvia backup`.",
            "--no-first-backup",
        ),
        Ask::Service => (
            "Install the service that runs the schedule?".to_owned(),
            Some("yes".to_owned()),
            Form::YesNo,
            "A service of your own (systemd, launchd, or a line in your crontab) that runs `exuvia daemon`. \
             `exuvia service uninstall` takes it away.",
            "--no-service",
        ),
        Ask::Confirm => (
            "Do this?".to_owned(),
            Some("yes".to_owned()),
            Form::YesNo,
            "Until now nothing was written. If a step fails, those before it are undone. `no` ends without a trace; \
             < goes back.",
            "--yes",
        ),
    };
    Question { ask, words, default, form, help, flag }
}

type Parts = (String, Option<String>, Form, &'static str, &'static str);

fn state_dir(facts: &Facts) -> Parts {
    const HELP: &str = "The directory of which snapshots are taken: that of OpenClaw, or any other program's. Type a path \
                        that is not in the list.";
    let words = match facts.state_dirs.as_slice() {
        [] => "Which directory should be backed up? (the usual one is not there yet)".to_owned(),
        found => {
            let list: Vec<String> =
                found.iter().map(|(path, about)| format!("    {} ({about})", path.display())).collect();
            format!("Which directory should be backed up? Found:\n{}\n ", list.join("\n"))
        }
    };
    let first = facts.state_dirs.first().map_or(&facts.state_dir, |(path, _)| path);
    (words, Some(first.to_string_lossy().into_owned()), Form::Text, HELP, "--state-dir")
}

fn remote(facts: &Facts) -> Parts {
    const HELP: &str = "REMOTE:PATH, where REMOTE is a remote of your rclone.conf. `rclone config` makes new ones. A \
                        bucket must exist; folders are made.";
    let remotes = facts.remotes.as_deref().unwrap_or_default();
    let words = match remotes {
        [] => "Which remote, as REMOTE:PATH? (rclone knows none yet)".to_owned(),
        remotes => format!("Which remote, as REMOTE:PATH? rclone knows {}", remotes.join(" ")),
    };
    let default = remotes.first().map(|remote| format!("{remote}exuvia"));
    (words, default, Form::Text, HELP, "--repo")
}

fn passphrase(ask: Ask, facts: &Facts, found: Option<Found>) -> Question {
    let there = found == Some(Found::Repository);
    let choice = |choices: &[(&str, &str)]| {
        Form::Choice(choices.iter().map(|(name, about)| ((*name).to_owned(), (*about).to_owned())).collect())
    };
    let file = facts.passphrase_file.to_string_lossy().into_owned();
    let (words, default, form, help, flag) = match ask {
        Ask::Opens if there => (
            "There is a repository already. What opens it?",
            Some("typed".to_owned()),
            choice(&[("typed", "type its passphrase or recovery phrase"), ("file", "a file that holds it")]),
            "It is opened and used as it is: its snapshots stay. Its passphrase is tried before anything is written.",
            "--passphrase-file",
        ),
        Ask::Opens => (
            "What should open the repository?",
            Some("generate".to_owned()),
            choice(&[
                ("generate", "a key of 256 bits, made now and kept in a file that only you can read"),
                ("typed", "a passphrase of your own"),
                ("file", "a passphrase that is in a file already"),
            ]),
            "Whoever has it can read your snapshots; without it nobody can, you included. A generated key cannot be \
             guessed. Keep a copy elsewhere, or the recovery phrase.",
            "--generate-passphrase-file or --passphrase-file",
        ),
        Ask::PassphraseFile => (
            "Which file?",
            Some(file),
            Form::Text,
            "The file's first line is the passphrase. A generated key goes to a new file.",
            "--generate-passphrase-file or --passphrase-file",
        ),
        Ask::Typed => (
            "The passphrase (does not show)?",
            None,
            if there { Form::Hidden } else { Form::HiddenTwice },
            "Five random words are good; fewer than twelve characters can be guessed by whoever has the repository.",
            "--passphrase-file",
        ),
        Ask::Keep => {
            let mut choices = vec![("file", "in a file that only you can read")];
            if facts.keyring {
                choices.push(("keyring", "in the keyring of this system"));
            }
            choices.push(("no", "nowhere: it is asked for each time, and no schedule can run"));
            (
                "Where should it be kept, for runs by themselves?",
                Some("file".to_owned()),
                choice(&choices),
                "The scheduler cannot ask. What is in a file is as safe as your account on this machine.",
                "--passphrase-file",
            )
        }
        _ => (
            "In which file?",
            Some(file),
            Form::Text,
            "A new file, readable by you only. It must not lie in the repository or the state dir.",
            "--passphrase-file",
        ),
    };
    Question { ask, words: words.to_owned(), default, form, help, flag }
}
