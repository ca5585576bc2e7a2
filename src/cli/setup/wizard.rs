//! The questions and what follows from their answers: a state machine without a terminal. It asks what is not answered
//! yet and still matters, wants to be told what was found where the answers point to, and comes to a [`Plan`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::plan::{ALL, Keep, Opens, Place, Plan};
use crate::config;
use crate::model::{Schedule, Secret};

/// What is known before anything is asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// State dirs that exist, with a word about each; the likeliest first.
    pub(super) state_dirs: Vec<(PathBuf, String)>,
    /// The one that is meant when nothing is said.
    pub(super) state_dir: PathBuf,
    /// A folder for a local repository.
    pub(super) folder: PathBuf,
    /// A file for a passphrase.
    pub(super) passphrase_file: PathBuf,
    /// The user's home directory, for `~/`.
    pub(super) home: Option<PathBuf>,
    /// Remotes that rclone has; `None` when it cannot be run.
    pub(super) remotes: Option<Vec<String>>,
    /// There is a keyring that can keep a passphrase.
    pub(super) keyring: bool,
    /// Settings of an earlier plugin, and where.
    pub(super) plugin: Option<String>,
    /// They say how to get a passphrase.
    pub(super) command: bool,
}

/// A question. Their order is that of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    Import,
    StateDir,
    Place,
    Folder,
    Endpoint,
    Region,
    Bucket,
    KeyId,
    Secret,
    Login,
    Token,
    DriveId,
    DriveType,
    Remote,
    Prefix,
    Opens,
    PassphraseFile,
    Typed,
    Keep,
    KeepFile,
    Recovery,
    Schedule,
    Retention,
    FirstBackup,
    Service,
    Confirm,
}

/// How an answer is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// A line.
    Text,
    /// A line that does not show.
    Hidden,
    /// The same, typed twice.
    HiddenTwice,
    /// One of these words, with what it means.
    Choice(Vec<(String, String)>),
    /// `yes` or `no`.
    YesNo,
}

/// A question as it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) ask: Ask,
    pub(super) words: String,
    /// What an empty answer stands for.
    pub(super) default: Option<String>,
    pub(super) form: Form,
    /// What `?` shows.
    pub(super) help: &'static str,
    /// The flag that answers it.
    pub(super) flag: &'static str,
}

/// What the wizard wants next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(Question),
    /// Log in to this kind of drive; [`Wizard::answer`] takes the token.
    Authorize(&'static str),
    /// Look what is at the place; [`Wizard::found`] is told.
    Look,
    /// Everything is answered.
    Done,
}

/// What was found where the repository is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Repository,
}

type Answers = BTreeMap<Ask, Zeroizing<String>>;

/// The answers so far.
pub(super) struct Wizard {
    facts: Facts,
    answers: Answers,
    /// Answered on the command line: not asked, and not forgotten.
    given: Answers,
    /// Answers that were taken back: they are offered again.
    before: Answers,
    /// Answered by what is imported: not asked, and forgotten when the import is.
    adopted: BTreeSet<Ask>,
    found: Option<Found>,
}

/// The passphrase is got as an earlier plugin got it.
const IMPORTED: &str = "imported";

const PLACES: [(&str, &str); 7] = [
    ("local", "a folder on this machine, or on a disk or share that is mounted"),
    ("s3", "Amazon S3, Cloudflare R2, MinIO, Wasabi, or another service that speaks S3"),
    ("b2", "Backblaze B2"),
    ("dropbox", "Dropbox"),
    ("gdrive", "Google Drive"),
    ("onedrive", "Microsoft OneDrive"),
    ("rclone", "a remote of rclone: SFTP, WebDAV and 70 others"),
];

/// What the questions about a place are, in their order.
fn about(place: &str) -> &'static [Ask] {
    match place {
        "local" => &[Ask::Folder],
        "s3" => &[Ask::Endpoint, Ask::Region, Ask::Bucket, Ask::KeyId, Ask::Secret, Ask::Prefix],
        "b2" => &[Ask::Bucket, Ask::KeyId, Ask::Secret, Ask::Prefix],
        "dropbox" | "gdrive" => &[Ask::Login, Ask::Token, Ask::Prefix],
        "onedrive" => &[Ask::Login, Ask::Token, Ask::DriveId, Ask::DriveType, Ask::Prefix],
        _ => &[Ask::Remote],
    }
}

/// rclone's name for a drive.
fn backend(place: &str) -> &'static str {
    match place {
        "gdrive" => "drive",
        "onedrive" => "onedrive",
        _ => "dropbox",
    }
}

impl Wizard {
    /// `given`: answers that need not be asked for; each is taken as if it were typed.
    pub(super) fn new(facts: Facts, given: &[(Ask, Zeroizing<String>)]) -> Result<Self, String> {
        let empty = Answers::new;
        let mut wizard = Self {
            facts,
            answers: empty(),
            given: empty(),
            before: empty(),
            adopted: BTreeSet::new(),
            found: None,
        };
        for (ask, text) in given {
            wizard.answer(*ask, text)?;
        }
        wizard.given.clone_from(&wizard.answers);
        Ok(wizard)
    }

    fn said(&self, ask: Ask) -> Option<&str> {
        self.answers.get(&ask).map(|text| text.as_str())
    }

    /// Whether a question has an answer.
    pub(super) fn knows(&self, ask: Ask) -> bool {
        self.answers.contains_key(&ask)
    }

    fn yes(&self, ask: Ask) -> bool {
        self.said(ask) == Some("yes")
    }

    /// The settings of an earlier plugin are used.
    pub(super) fn imported(&self) -> bool {
        self.facts.plugin.is_some() && self.yes(Ask::Import)
    }

    /// What is to be done next.
    pub(super) fn next(&self) -> Step {
        let Some(ask) = self.open() else { return Step::Done };
        match ask {
            Open::Look => Step::Look,
            Open::Ask(Ask::Token) if self.said(Ask::Login) == Some("browser") => {
                Step::Authorize(backend(self.said(Ask::Place).unwrap_or_default()))
            }
            Open::Ask(ask) => Step::Ask(self.question(ask)),
        }
    }

    /// The first thing that is open.
    fn open(&self) -> Option<Open> {
        let imported = self.imported();
        let mut route = Vec::new();
        if self.facts.plugin.is_some() {
            route.push(Ask::Import);
        }
        route.push(Ask::StateDir);
        if !imported {
            route.push(Ask::Place);
            route.extend(self.said(Ask::Place).map(about).unwrap_or_default());
        }
        if let Some(ask) = self.first_of(&route) {
            return Some(Open::Ask(ask));
        }
        let Some(found) = self.found else { return Some(Open::Look) };
        let mut route = vec![Ask::Opens];
        match self.said(Ask::Opens) {
            Some("generate" | "file") => route.push(Ask::PassphraseFile),
            Some("typed") => {
                route.extend([Ask::Typed, Ask::Keep]);
                if self.said(Ask::Keep) == Some("file") {
                    route.push(Ask::KeepFile);
                }
            }
            _ => {}
        }
        if found == Found::Nothing {
            route.push(Ask::Recovery);
        }
        if !imported {
            route.extend([Ask::Schedule, Ask::Retention]);
        }
        // Who wants to type the passphrase each time is not asked by a service, and is asked enough.
        if self.said(Ask::Keep) != Some("no") {
            route.extend([Ask::FirstBackup, Ask::Service]);
        }
        route.push(Ask::Confirm);
        self.first_of(&route).map(Open::Ask)
    }

    fn first_of(&self, route: &[Ask]) -> Option<Ask> {
        route.iter().copied().find(|ask| !self.answers.contains_key(ask))
    }

    /// Takes an answer. What is wrong with one that cannot be taken is said in words.
    pub(super) fn answer(&mut self, ask: Ask, text: &str) -> Result<(), String> {
        let question = self.question(ask);
        let hidden = matches!(question.form, Form::Hidden | Form::HiddenTwice);
        let text = if hidden { text } else { text.trim() };
        let text = match (text.is_empty(), question.default) {
            (true, Some(default)) => Zeroizing::new(default),
            _ => Zeroizing::new(text.to_owned()),
        };
        let text = match &question.form {
            Form::Choice(choices) => Zeroizing::new(choose(choices, &text)?),
            Form::YesNo => Zeroizing::new(yes_or_no(&text)?.to_owned()),
            _ => text,
        };
        let text = self.checked(ask, text)?;
        if ask == Ask::Import {
            self.disown();
        }
        self.adopted.remove(&ask);
        self.answers.insert(ask, text);
        Ok(())
    }

    /// Takes an answer out of what is imported. It goes when the import is declined after all.
    pub(super) fn adopt(&mut self, ask: Ask, text: &str) -> Result<(), String> {
        self.answer(ask, text)?;
        self.adopted.insert(ask);
        Ok(())
    }

    /// Forgets the answers that the import gave; they are not offered either.
    fn disown(&mut self) {
        for ask in std::mem::take(&mut self.adopted) {
            self.answers.remove(&ask);
        }
    }

    /// An answer in its final form.
    fn checked(&self, ask: Ask, text: Zeroizing<String>) -> Result<Zeroizing<String>, String> {
        let optional = [Ask::Endpoint, Ask::Region, Ask::KeyId, Ask::Secret, Ask::Prefix];
        if text.is_empty() && !optional.contains(&ask) {
            return Err("this needs an answer; ? explains".to_owned());
        }
        match ask {
            Ask::StateDir | Ask::Folder | Ask::PassphraseFile | Ask::KeepFile => {
                let path = self.path(&text)?;
                self.apart(ask, Path::new(path.as_str()))?;
                Ok(path)
            }
            Ask::Schedule => {
                text.parse::<Schedule>().map_err(|e| format!("the schedule {e}"))?;
                Ok(text)
            }
            Ask::Retention if *text == ALL => Ok(text),
            Ask::Retention => {
                config::retention(&text).map_err(|e| format!("what is kept {e}"))?;
                Ok(text)
            }
            Ask::Token if !text.trim_start().starts_with('{') => {
                Err("a token is the JSON text that `rclone authorize` prints, from { to }".to_owned())
            }
            Ask::Remote if !text.contains(':') => {
                Err("a remote has the form REMOTE:PATH, such as nas:backup/agent".to_owned())
            }
            Ask::Bucket if text.contains(['/', ':']) => {
                Err("the bucket's name alone; the folder in it is asked for later".to_owned())
            }
            _ => Ok(text),
        }
    }

    /// An absolute path; `~/` is the home directory.
    fn path(&self, text: &str) -> Result<Zeroizing<String>, String> {
        let path = match (text.strip_prefix("~/"), &self.facts.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(text),
        };
        let path = crate::cli::global::absolute(&path).map_err(|e| e.message)?;
        let text = path.to_str().ok_or("a path in the configuration file must be UTF-8")?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// A repository must not be part of what it keeps, nor a passphrase lie where it protects nothing; in whatever
    /// order the paths are named.
    fn apart(&self, ask: Ask, path: &Path) -> Result<(), String> {
        let of = |other: Ask| match ask == other {
            true => Some(path),
            false => self.said(other).map(Path::new),
        };
        let within = |inner: Option<&Path>, outer: Option<&Path>| {
            inner.zip(outer).is_some_and(|(inner, outer)| inner.starts_with(outer))
        };
        let (state, folder) = (of(Ask::StateDir), of(Ask::Folder));
        if within(state, folder) || within(folder, state) {
            return Err("the repository and the state dir must not lie in each other".to_owned());
        }
        for file in [Ask::PassphraseFile, Ask::KeepFile] {
            // Of two that were answered before, this one is not to blame.
            if ![Ask::StateDir, Ask::Folder, file].contains(&ask) {
                continue;
            }
            let named = match ask == file {
                true => String::new(),
                false => format!(" ({})", self.said(file).unwrap_or_default()),
            };
            if within(of(file), folder) {
                return Err(format!(
                    "in the repository a passphrase{named} protects nothing; choose another place"
                ));
            }
            if within(of(file), state) {
                return Err(format!(
                    "in the state dir the passphrase{named} would be lost together with what it opens"
                ));
            }
        }
        Ok(())
    }

    /// What was found where the answers point to.
    pub(super) fn found(&mut self, found: Found) {
        self.found = Some(found);
    }

    /// Goes back to the last question that was asked; false when there is none.
    pub(super) fn back(&mut self) -> bool {
        let is_asked = |ask: &Ask| !self.given.contains_key(ask) && !self.adopted.contains(ask);
        let asked = self.answers.keys().rev().copied().find(is_asked);
        let Some(ask) = asked else { return false };
        self.take_back(|a| a == ask);
        // Whatever is answered now may point elsewhere.
        if ask <= Ask::Prefix {
            self.found = None;
        }
        true
    }

    /// The answers about the place led nowhere: they are asked for again.
    pub(super) fn again(&mut self) {
        self.take_back(|ask| (Ask::Import..=Ask::Prefix).contains(&ask) && ask != Ask::StateDir);
        self.found = None;
    }

    /// What opens the repository does not: it is asked for again.
    pub(super) fn does_not_open(&mut self) {
        self.take_back(|ask| (Ask::Opens..=Ask::KeepFile).contains(&ask));
    }

    fn take_back(&mut self, which: impl Fn(Ask) -> bool) {
        let gone: Vec<Ask> = self.answers.keys().copied().filter(|ask| which(*ask)).collect();
        if gone.contains(&Ask::Import) {
            self.disown();
        }
        for ask in gone {
            self.adopted.remove(&ask);
            if let Some(text) = self.answers.remove(&ask) {
                self.before.insert(ask, text);
            }
        }
    }

    /// What the answers come to; `None` while one is missing.
    pub(super) fn plan(&self) -> Option<Plan> {
        let path = |ask| self.said(ask).map(PathBuf::from);
        let found = self.found?;
        let opens = match self.said(Ask::Opens)? {
            "generate" => Opens::Generated(path(Ask::PassphraseFile)?),
            "file" => Opens::File(path(Ask::PassphraseFile)?),
            IMPORTED => Opens::Imported,
            _ => {
                let keep = match self.said(Ask::Keep)? {
                    "file" => Keep::File(path(Ask::KeepFile)?),
                    "keyring" => Keep::Keyring,
                    _ => Keep::Nowhere,
                };
                Opens::Typed(self.secret(Ask::Typed), keep)
            }
        };
        Some(Plan {
            state_dir: path(Ask::StateDir)?,
            place: self.place()?,
            exists: found == Found::Repository,
            opens,
            recovery: self.yes(Ask::Recovery),
            schedule: self.said(Ask::Schedule).map(str::to_owned),
            retention: self.said(Ask::Retention).map(str::to_owned),
            first_backup: self.yes(Ask::FirstBackup),
            service: self.yes(Ask::Service),
        })
    }

    /// Where the repository is to be, as soon as that is known.
    pub(super) fn place(&self) -> Option<Place> {
        if self.imported() {
            return Some(Place::Imported);
        }
        let text = |ask| self.said(ask).filter(|text| !text.is_empty()).map(str::to_owned);
        let prefix = text(Ask::Prefix).unwrap_or_default();
        let place = self.said(Ask::Place)?;
        Some(match place {
            "local" => Place::Local(self.said(Ask::Folder)?.into()),
            "s3" => Place::S3 {
                endpoint: text(Ask::Endpoint),
                region: text(Ask::Region),
                bucket: text(Ask::Bucket)?,
                keys: text(Ask::KeyId).map(|id| (id, self.secret(Ask::Secret))),
                prefix,
            },
            "b2" => Place::B2 {
                bucket: text(Ask::Bucket)?,
                key_id: text(Ask::KeyId).unwrap_or_default(),
                key: self.secret(Ask::Secret),
                prefix,
            },
            "rclone" => Place::Rclone(self.secret(Ask::Remote)),
            drive => Place::Drive {
                provider: PLACES.iter().find(|(name, _)| *name == drive)?.0,
                token: self.secret(Ask::Token),
                drive: text(Ask::DriveId).zip(text(Ask::DriveType)),
                prefix,
            },
        })
    }

    /// Whether what is planned is wanted; `None` when that is not answered.
    pub(super) fn confirmed(&self) -> Option<bool> {
        self.said(Ask::Confirm).map(|text| text == "yes")
    }

    /// The state dir, once it is known.
    #[cfg(test)]
    pub(super) fn state_dir(&self) -> Option<&Path> {
        self.said(Ask::StateDir).map(Path::new)
    }

    fn secret(&self, ask: Ask) -> Secret {
        Secret::new(self.said(ask).unwrap_or_default().to_owned())
    }

    /// A question as it is asked now.
    pub(super) fn question(&self, ask: Ask) -> Question {
        let mut question = super::questions::of(ask, &self.facts, self.said(Ask::Place), self.found);
        if let Form::Choice(choices) = &mut question.form
            && ask == Ask::Opens
            && self.facts.command
            && self.imported()
        {
            let about = "as the earlier plugin gets it: by passphrase_command in the configuration file";
            choices.push((IMPORTED.to_owned(), about.to_owned()));
            question.default = Some(IMPORTED.to_owned());
        }
        let secret = matches!(question.form, Form::Hidden | Form::HiddenTwice);
        if let Some(before) = self.before.get(&ask).filter(|_| !secret && ask != Ask::Confirm) {
            question.default = Some(before.to_string());
        }
        question
    }
}

/// What the places are called, for questions.
pub(super) fn places() -> Vec<(String, String)> {
    PLACES.iter().map(|(name, about)| ((*name).to_owned(), (*about).to_owned())).collect()
}

enum Open {
    Ask(Ask),
    Look,
}

/// A choice by its number, its name, or a beginning that no other has.
fn choose(choices: &[(String, String)], text: &str) -> Result<String, String> {
    if let Some((name, _)) = choices.iter().find(|(name, _)| name == text) {
        return Ok(name.clone());
    }
    if let Some((name, _)) = text.parse::<usize>().ok().and_then(|n| choices.get(n.checked_sub(1)?)) {
        return Ok(name.clone());
    }
    let mut fitting = choices.iter().filter(|(name, _)| !text.is_empty() && name.starts_with(text));
    match (fitting.next(), fitting.next()) {
        (Some((name, _)), None) => Ok(name.clone()),
        _ => {
            let names: Vec<&str> = choices.iter().map(|(name, _)| name.as_str()).collect();
            Err(format!("one of {}, or its number", names.join(", ")))
        }
    }
}

fn yes_or_no(text: &str) -> Result<&'static str, String> {
    match text.to_lowercase().as_str() {
        "y" | "yes" => Ok("yes"),
        "n" | "no" => Ok("no"),
        _ => Err("yes or no".to_owned()),
    }
}

#[cfg(test)]
mod tests;
