//! Answers on the command line.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::plan::ALL;
use super::wizard::Ask;
use crate::cli::error::CliError;
use crate::cli::global::{self, Context};
use crate::cli::passphrase;

/// Answers that need not be asked for.
#[derive(clap::Args, Debug)]
pub(super) struct Flags {
    /// The service that keeps the repository, with --remote-...: s3, b2, dropbox, gdrive, onedrive
    #[arg(long, value_name = "NAME", value_parser = ["s3", "b2", "dropbox", "gdrive", "onedrive"])]
    remote_provider: Option<String>,

    /// The bucket (s3, b2)
    #[arg(long, value_name = "NAME", requires = "remote_provider")]
    remote_bucket: Option<String>,

    /// The folder in bucket or drive [default: exuvia]
    #[arg(long, value_name = "FOLDER", requires = "remote_provider")]
    remote_prefix: Option<String>,

    /// The service's address (s3) [default: Amazon's]
    #[arg(long, value_name = "URL", requires = "remote_provider")]
    remote_endpoint: Option<String>,

    /// The region (s3)
    #[arg(long, value_name = "NAME", requires = "remote_provider")]
    remote_region: Option<String>,

    /// The id of the key (s3, b2)
    #[arg(long, value_name = "ID", requires = "remote_provider")]
    remote_key_id: Option<String>,

    /// A file that holds the key's secret (s3, b2)
    #[arg(long, value_name = "FILE", requires = "remote_provider")]
    remote_secret_file: Option<PathBuf>,

    /// A file that holds the token that `rclone authorize` printed (dropbox, gdrive, onedrive)
    #[arg(long, value_name = "FILE", requires = "remote_provider")]
    remote_token_file: Option<PathBuf>,

    /// The drive (onedrive)
    #[arg(long, value_name = "ID", requires = "remote_provider")]
    remote_drive_id: Option<String>,

    /// Its kind (onedrive): personal, business, documentLibrary
    #[arg(long, value_name = "KIND", requires = "remote_provider")]
    remote_drive_type: Option<String>,

    /// A file that holds the passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "generate_passphrase_file")]
    passphrase_file: Option<PathBuf>,

    /// Make a key of 256 bits and keep it in this new file [default with --yes: passphrase, beside the configuration
    /// file]
    #[arg(long, value_name = "FILE")]
    generate_passphrase_file: Option<PathBuf>,

    /// How often: 15m, 1h, daily 03:30, weekly sun 04:00, cron 30 3 * * 1-5, off [default: 1h]
    #[arg(long, value_name = "WHEN")]
    schedule: Option<String>,

    /// Keep so many of the newest snapshots
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,

    /// Keep one for each of so many hours
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,

    /// Keep one for each of so many days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,

    /// Keep one for each of so many weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,

    /// Keep one for each of so many months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,

    /// Keep one for each of so many years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u32>,

    /// Keep every snapshot
    #[arg(
        long,
        conflicts_with_all = ["keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"]
    )]
    keep_all: bool,

    /// Take no snapshot now
    #[arg(long)]
    no_first_backup: bool,

    /// Install no service
    #[arg(long)]
    no_service: bool,

    /// Whether the settings of an earlier plugin in openclaw.json are used, if there are any [default: yes, unless a
    /// repository is named]
    #[arg(long, value_name = "yes|no", value_parser = ["yes", "no"])]
    import: Option<String>,
}

type Answers = Vec<(Ask, Zeroizing<String>)>;

impl Flags {
    /// The answers, in the order of the questions. `yes`: nobody sees what is printed once.
    pub(super) fn answers(&self, ctx: &Context, yes: bool) -> Result<Answers, CliError> {
        let mut answers = Answers::new();
        let mut add = |ask, text: &str| answers.push((ask, Zeroizing::new(text.to_owned())));
        // The variable wins over the file that is written: it answers, too.
        let state = ctx.args.state_dir.clone().or_else(|| ctx.env.path("EXUVIA_STATE_DIR"));
        let state = state.map(|path| utf8(&path, "the state dir")).transpose()?;
        let named = ctx.args.repo.is_some() || self.remote_provider.is_some();
        let optional = |text: &Option<String>| text.clone();
        let import = self.import.clone().or_else(|| named.then(|| "no".to_owned()));
        for (ask, text) in [(Ask::Import, import), (Ask::StateDir, state)] {
            text.iter().for_each(|text| add(ask, text));
        }
        match (&ctx.args.repo, &self.remote_provider) {
            (Some(_), Some(_)) => {
                return Err(CliError::usage("--repo and --remote-provider both say where the repository is"));
            }
            (Some(repo), None) => {
                let repo = repo.to_str().ok_or_else(|| CliError::usage("--repo must be UTF-8"))?;
                match repo.strip_prefix(crate::app::SCHEME) {
                    Some(remote) => {
                        add(Ask::Place, "rclone");
                        add(Ask::Remote, remote);
                    }
                    None => {
                        add(Ask::Place, "local");
                        add(Ask::Folder, repo);
                    }
                }
            }
            (None, Some(provider)) => {
                add(Ask::Place, provider);
                let drive = !["s3", "b2"].contains(&provider.as_str());
                if drive && self.remote_token_file.is_some() {
                    add(Ask::Login, "token");
                }
            }
            (None, None) => {}
        }
        for (ask, text) in [
            (Ask::Endpoint, optional(&self.remote_endpoint)),
            (Ask::Region, optional(&self.remote_region)),
            (Ask::Bucket, optional(&self.remote_bucket)),
            (Ask::KeyId, optional(&self.remote_key_id)),
            (Ask::DriveId, optional(&self.remote_drive_id)),
            (Ask::DriveType, optional(&self.remote_drive_type)),
            (Ask::Prefix, optional(&self.remote_prefix)),
            (Ask::Schedule, optional(&self.schedule)),
            (Ask::Retention, self.retention()),
        ] {
            text.iter().for_each(|text| add(ask, text));
        }
        if self.no_first_backup {
            add(Ask::FirstBackup, "no");
        }
        if self.no_service {
            add(Ask::Service, "no");
        }
        if yes {
            add(Ask::Recovery, "no");
        }
        for (opens, file) in [("file", &self.passphrase_file), ("generate", &self.generate_passphrase_file)] {
            if let Some(file) = file {
                add(Ask::Opens, opens);
                add(Ask::PassphraseFile, &utf8(file, "the passphrase's file")?);
            }
        }
        for (ask, file) in [(Ask::Secret, &self.remote_secret_file), (Ask::Token, &self.remote_token_file)] {
            if let Some(file) = file {
                answers.push((ask, secret(ctx, file)?));
            }
        }
        Ok(answers)
    }

    /// In the words of the configuration file.
    fn retention(&self) -> Option<String> {
        if self.keep_all {
            return Some(ALL.to_owned());
        }
        let rules = [
            ("last", self.keep_last),
            ("hourly", self.keep_hourly),
            ("daily", self.keep_daily),
            ("weekly", self.keep_weekly),
            ("monthly", self.keep_monthly),
            ("yearly", self.keep_yearly),
        ];
        let rules: Vec<String> =
            rules.iter().filter_map(|(name, count)| Some(format!("{name}: {}", (*count)?))).collect();
        (!rules.is_empty()).then(|| format!("{{{}}}", rules.join(", ")))
    }
}

fn utf8(path: &Path, what: &str) -> Result<String, CliError> {
    let path = global::absolute(path)?;
    let text = path.to_str().ok_or_else(|| CliError::usage(format!("{what} must be UTF-8")))?;
    Ok(text.to_owned())
}

/// The first line of a file.
fn secret(ctx: &Context, file: &Path) -> Result<Zeroizing<String>, CliError> {
    let source = crate::cli::text::show(file);
    let obtained = passphrase::from_file(ctx, file, &source)?;
    let text = std::str::from_utf8(obtained.passphrase.as_bytes());
    let text = text.map_err(|_| CliError::usage(format!("{source} must hold text")))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}
