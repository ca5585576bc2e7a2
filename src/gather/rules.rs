//! What a walk leaves out: patterns of the user, ignore files in the tree, the profile.
//!
//! Patterns of the user and ignore files are in gitignore's syntax. The first that speaks decides:
//!
//! 1. the profile's lock databases, which must never be opened;
//! 2. `--exclude` and `--exclude-file`, the last matching pattern first;
//! 3. the ignore files, the deepest first, in each the last matching pattern first;
//! 4. the rest of the profile.
//!
//! So `!pattern` in 2 brings back what 3 and 4 leave out, and in 3 what 4 does. As in git, nothing
//! below a directory that is left out can be brought back, since it is not looked into.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::Profile;
use super::anchored::{Patterns, Position};
use crate::fs::Dir;
use crate::model::{Classify, ErrorClass, RepoPath};

/// Name of the ignore files.
pub const IGNORE_FILE: &str = ".exuviaignore";

/// Longest pattern file read. Larger ones are refused: half a list of patterns is not what was meant.
const MAX_PATTERN_FILE: u64 = 1024 * 1024;

/// What the user asked to leave out.
#[derive(Clone, Debug, Default)]
pub struct RuleOptions {
    /// Patterns, anchored at the root of the walk.
    pub excludes: Vec<String>,
    /// Files of patterns, one a line, anchored at the root of the walk.
    pub exclude_files: Vec<PathBuf>,
    /// Whether ignore files in the tree count.
    pub ignore_files: bool,
    /// The application whose own leftovers are left out.
    pub profile: Profile,
}

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// A pattern that is not understood.
    #[error("{origin}: pattern {pattern:?}: {message}")]
    Pattern {
        /// Where it stands.
        origin: String,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        message: String,
    },
    /// A file of patterns that cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Classify for RuleError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

/// Compiled rules; a clone is cheap.
#[derive(Clone, Debug)]
pub struct Rules(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    never: Patterns,
    explicit: Gitignore,
    profile: Patterns,
    ignore_files: bool,
}

impl Default for Rules {
    /// Rules that leave nothing out.
    fn default() -> Self {
        Self(Arc::new(Compiled {
            never: Patterns::default(),
            explicit: Gitignore::empty(),
            profile: Patterns::default(),
            ignore_files: false,
        }))
    }
}

impl Rules {
    /// Compiles rules; the first pattern that is not understood is an error.
    pub fn compile(options: &RuleOptions) -> Result<Self, RuleError> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in &options.excludes {
            add(&mut builder, "exclude", pattern)?;
        }
        for path in &options.exclude_files {
            let read = File::open(path).and_then(read_patterns);
            let bytes = read.map_err(|source| RuleError::Read { path: path.clone(), source })?;
            for (number, line) in lines(&bytes) {
                let origin = format!("{}:{number}", path.display());
                add(&mut builder, &origin, utf8(&origin, line)?)?;
            }
        }
        Ok(Self(Arc::new(Compiled {
            never: options.profile.never(),
            explicit: build("exclude", &builder)?,
            profile: options.profile.skip(),
            ignore_files: options.ignore_files,
        })))
    }
}

impl Rules {
    /// True when a walk of `root` would leave out the file at `path`, which need not exist; also when
    /// a directory on the way to it cannot be opened.
    pub fn leave_out(&self, root: &Dir, path: &RepoPath) -> bool {
        let mut judge = Judge::new(self.clone());
        let mut standing = judge.start();
        let (mut at, mut opened) = (RepoPath::root(), None::<Dir>);
        let count = path.components().count();
        for (depth, name) in path.components().enumerate() {
            let dir = opened.as_ref().unwrap_or(root);
            if judge.reads_ignore_files() {
                // The walk reports one that cannot be read.
                let _ = judge.enter(dir, at.as_bytes(), depth);
            }
            let is_dir = depth + 1 < count;
            let Ok(next) = at.join(name) else { return true };
            match judge.judge(&standing, next.as_bytes(), name, is_dir) {
                Verdict::Keep(further) => standing = further,
                Verdict::LeaveOut => return true,
            }
            if is_dir {
                let Ok(next) = dir.open_dir(name) else { return true };
                opened = Some(next);
            }
            at = next;
        }
        false
    }
}

fn add(builder: &mut GitignoreBuilder, origin: &str, pattern: &str) -> Result<(), RuleError> {
    let result = builder.add_line(None, pattern);
    result.map(drop).map_err(|error| RuleError::Pattern {
        origin: origin.to_owned(),
        pattern: pattern.to_owned(),
        message: error.to_string(),
    })
}

fn build(origin: &str, builder: &GitignoreBuilder) -> Result<Gitignore, RuleError> {
    builder.build().map_err(|error| RuleError::Pattern {
        origin: origin.to_owned(),
        pattern: String::new(),
        message: error.to_string(),
    })
}

fn read_patterns(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_PATTERN_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_PATTERN_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a file of patterns of more than 1 MiB"));
    }
    Ok(bytes)
}

/// The lines with their numbers, without comments, line ends of any kind, and a byte order mark.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines = bytes.split(|&b| b == b'\n').enumerate();
    let lines = lines.map(|(i, line)| (i + 1, line.strip_suffix(b"\r").unwrap_or(line)));
    lines.filter(|(_, line)| !line.starts_with(b"#"))
}

fn utf8<'a>(origin: &str, line: &'a [u8]) -> Result<&'a str, RuleError> {
    std::str::from_utf8(line).map_err(|_| RuleError::Pattern {
        origin: origin.to_owned(),
        pattern: line.escape_ascii().to_string(),
        message: "not UTF-8; put `?` or `*` for the bytes in question".to_owned(),
    })
}

/// Where a directory stands towards the anchored patterns.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    never: Position,
    profile: Position,
}

/// What the rules say of a name.
pub(super) enum Verdict {
    /// It belongs to the source; where it stands, should it be a directory.
    Keep(Standing),
    /// It is left out.
    LeaveOut,
}

/// An ignore file in force, with the length of the path of its directory and the slash after it.
#[derive(Debug)]
struct InForce {
    depth: usize,
    base: usize,
    patterns: Gitignore,
}

/// The rules along a walk: they change with the ignore files of the directories it is in.
#[derive(Debug)]
pub(super) struct Judge {
    rules: Rules,
    in_force: Vec<InForce>,
}

impl Judge {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, in_force: Vec::new() }
    }

    /// Where the root stands.
    pub(super) fn start(&self) -> Standing {
        Standing { never: self.rules.0.never.start(), profile: self.rules.0.profile.start() }
    }

    /// What becomes of the last component of `path`, whose directory is `from`.
    pub(super) fn judge(&self, from: &Standing, path: &[u8], name: &[u8], is_dir: bool) -> Verdict {
        let rules = &*self.rules.0;
        let never = rules.never.step(&from.never, name, is_dir);
        if never == Position::Inside {
            return Verdict::LeaveOut;
        }
        let profile = rules.profile.step(&from.profile, name, is_dir);
        let left_out = self.said(path, is_dir).unwrap_or(profile == Position::Inside);
        if left_out {
            return Verdict::LeaveOut;
        }
        // Brought back by the user: then with all that is in it.
        let profile = if profile == Position::Inside { Position::Outside } else { profile };
        Verdict::Keep(Standing { never, profile })
    }

    /// What the user's patterns say, if they say anything: true to leave out.
    fn said(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        let said = |patterns: &Gitignore, path: &[u8]| {
            if patterns.is_empty() {
                return None;
            }
            match patterns.matched(Path::new(OsStr::from_bytes(path)), is_dir) {
                Match::None => None,
                Match::Ignore(_) => Some(true),
                Match::Whitelist(_) => Some(false),
            }
        };
        said(&self.rules.0.explicit, path).or_else(|| {
            let below = |file: &InForce| said(&file.patterns, path.get(file.base..)?);
            self.in_force.iter().rev().find_map(below)
        })
    }

    /// True when ignore files count.
    pub(super) fn reads_ignore_files(&self) -> bool {
        self.rules.0.ignore_files
    }

    /// Puts the ignore file of a directory in force, until [`Judge::leave`] is called with its depth.
    /// Patterns that are not understood are returned; the others count.
    pub(super) fn enter(&mut self, dir: &Dir, dir_path: &[u8], depth: usize) -> io::Result<()> {
        let (file, _) = dir.open_regular(IGNORE_FILE.as_bytes())?;
        let bytes = read_patterns(file)?;
        let mut builder = GitignoreBuilder::new("");
        let mut first_error = None;
        for (number, line) in lines(&bytes) {
            let origin = format!("line {number}");
            let added = utf8(&origin, line).and_then(|line| add(&mut builder, &origin, line));
            first_error = first_error.or(added.err());
        }
        match build("patterns", &builder) {
            Ok(patterns) => {
                let base = dir_path.len() + usize::from(!dir_path.is_empty());
                self.in_force.push(InForce { depth, base, patterns });
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
        match first_error {
            Some(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            None => Ok(()),
        }
    }

    /// The walk has left the directory at `depth`.
    pub(super) fn leave(&mut self, depth: usize) {
        self.in_force.pop_if(|file| file.depth >= depth);
    }
}
