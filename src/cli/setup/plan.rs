//! What the answers come to: the configuration that is written, and the words of the summary.

use std::path::PathBuf;

use crate::cli::text;
use crate::config::draft::{Draft, Value};
use crate::model::Secret;

/// What is kept when everything is.
pub(super) const ALL: &str = "all";

/// Where the repository is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Where an earlier plugin's settings say.
    Imported,
    Local(PathBuf),
    S3 {
        endpoint: Option<String>,
        region: Option<String>,
        bucket: String,
        keys: Option<(String, Secret)>,
        prefix: String,
    },
    B2 {
        bucket: String,
        key_id: String,
        key: Secret,
        prefix: String,
    },
    Drive {
        provider: &'static str,
        token: Secret,
        /// Id and kind, where a service has several.
        drive: Option<(String, String)>,
        prefix: String,
    },
    /// `REMOTE:PATH`, which may have parameters.
    Rclone(Secret),
}

/// What opens the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opens {
    /// A key that is made, and the new file that it goes to.
    Generated(PathBuf),
    /// A file that holds it.
    File(PathBuf),
    Typed(Secret, Keep),
    /// The command that was imported prints it.
    Imported,
}

/// Where a passphrase that was typed is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Keep {
    File(PathBuf),
    Keyring,
    Nowhere,
}

/// Everything that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) state_dir: PathBuf,
    pub(super) place: Place,
    /// The repository is there already.
    pub(super) exists: bool,
    pub(super) opens: Opens,
    pub(super) recovery: bool,
    /// `None`: what an import says, or the default.
    pub(super) schedule: Option<String>,
    /// `all` for everything. `None`: what an import says, or everything.
    pub(super) retention: Option<String>,
    pub(super) first_backup: bool,
    pub(super) service: bool,
}

impl Place {
    /// Says in the draft where the repository is.
    pub(super) fn put(&self, draft: &mut Draft) {
        let mut set = |key: &str, value: &str| draft.set(key, Value::text(value));
        match self {
            Self::Imported => {}
            Self::Local(path) => set("repository", &path.to_string_lossy()),
            Self::S3 { endpoint, region, bucket, keys, prefix } => {
                set("remote.provider", "s3");
                set("remote.bucket", bucket);
                set("remote.prefix", prefix);
                let optional = [("remote.endpoint", endpoint), ("remote.region", region)];
                for (key, value) in optional {
                    value.iter().for_each(|value| set(key, value));
                }
                if let Some((id, secret)) = keys {
                    set("remote.key_id", id);
                    set("remote.secret", secret.expose());
                }
            }
            Self::B2 { bucket, key_id, key, prefix } => {
                set("remote.provider", "b2");
                set("remote.bucket", bucket);
                set("remote.prefix", prefix);
                set("remote.key_id", key_id);
                set("remote.secret", key.expose());
            }
            Self::Drive { provider, token, drive, prefix } => {
                set("remote.provider", provider);
                set("remote.token", token.expose().trim());
                set("remote.prefix", prefix);
                if let Some((id, kind)) = drive {
                    set("remote.drive_id", id);
                    set("remote.drive_type", kind);
                }
            }
            Self::Rclone(remote) => {
                set("remote.provider", "rclone");
                set("remote.remote", remote.expose());
            }
        }
    }
}

impl Opens {
    /// The file that the configuration names.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Generated(path) | Self::File(path) | Self::Typed(_, Keep::File(path)) => Some(path),
            Self::Typed(..) | Self::Imported => None,
        }
    }
}

impl Plan {
    /// Everything that the configuration file is to say, on top of what was imported.
    pub(super) fn draft(&self, mut draft: Draft) -> Draft {
        draft.set("state_dir", Value::text(self.state_dir.to_string_lossy()));
        self.place.put(&mut draft);
        if self.opens != Opens::Imported {
            ["passphrase_file", "passphrase_command", "passphrase_keyring"]
                .iter()
                .for_each(|key| draft.unset(key));
        }
        match (&self.opens, self.opens.file()) {
            (_, Some(file)) => draft.set("passphrase_file", Value::text(file.to_string_lossy())),
            (Opens::Typed(_, Keep::Keyring), None) => draft.set("passphrase_keyring", Value::Switch(true)),
            _ => {}
        }
        if let Some(schedule) = &self.schedule {
            draft.set("schedule.backup", Value::text(schedule.as_str()));
        }
        if let Some(retention) = &self.retention {
            // It stands there in one of two forms.
            draft.unset("retention");
            draft.unset_table("retention");
            if retention != ALL {
                draft.set("retention", Value::text(retention.as_str()));
            }
        }
        draft
    }

    /// What will be done, in the order in which it is done. `name`: what the repository is called; `config`: the
    /// file that is written.
    pub(super) fn summary(&self, name: &str, config: &std::path::Path) -> String {
        let mut rows = vec![("back up", text::show(&self.state_dir))];
        let there = if self.exists { "there already, and used as it is" } else { "made now" };
        rows.push(("into", format!("{name} ({there})")));
        rows.push((
            "passphrase",
            match &self.opens {
                Opens::Generated(path) => format!("generated, into {}", text::show(path)),
                Opens::File(path) => format!("from {}", text::show(path)),
                Opens::Typed(_, Keep::File(path)) => format!("as typed, kept in {}", text::show(path)),
                Opens::Typed(_, Keep::Keyring) => "as typed, kept in the keyring".to_owned(),
                Opens::Typed(_, Keep::Nowhere) => "as typed, kept nowhere".to_owned(),
                Opens::Imported => "as imported, printed by passphrase_command".to_owned(),
            },
        ));
        if self.recovery {
            rows.push(("recovery", "a phrase of twelve words, shown once".to_owned()));
        }
        rows.push(("configuration", text::show(config)));
        let schedule = self.schedule.clone().unwrap_or_else(|| "as imported".to_owned());
        rows.push(("schedule", schedule));
        let keep = match &self.retention {
            Some(rules) if rules != ALL => rules.clone(),
            None if self.place == Place::Imported => "as imported".to_owned(),
            _ => "everything".to_owned(),
        };
        rows.push(("keep", keep));
        let yes = |yes| if yes { "yes" } else { "no" }.to_owned();
        rows.push(("first snapshot", yes(self.first_backup)));
        rows.push(("service", yes(self.service)));
        let lines: Vec<String> = rows.iter().map(|(name, value)| format!("  {name:<15}{value}")).collect();
        lines.join("\n")
    }
}
