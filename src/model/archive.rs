//! Full archives: their names, forms and marks. `format-spec/` section 16.

use std::fmt;
use std::str::FromStr;

use super::{FileError, Timestamp, WriterId};

/// What stands before the time in the name of every archive.
const PREFIX: &str = "backup-";
const TIME: &str = "%Y%m%dT%H%M%SZ";
/// Characters of a time in a name.
const TIME_LEN: usize = 16;
/// The first and the last second that can be written: the year 0000 begins, and 9999 ends in some time zone.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_207_200;
const MARK: &str = ".mark";
const CHECKSUM: &str = ".sha256";

/// How the bytes of a full archive are compressed and encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArchiveForm {
    /// A sealed object: zstd, authenticated frame by frame.
    Sealed,
    /// gzip, then `openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000`: nothing in it is authenticated.
    Openssl,
    /// gzip, not encrypted.
    Gzip,
}

impl ArchiveForm {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Sealed, Self::Openssl, Self::Gzip];

    /// What a name of this form ends with.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Sealed => ".tar.zst.sealed",
            Self::Openssl => ".tar.gz.enc",
            Self::Gzip => ".tar.gz",
        }
    }

    /// The word used on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Openssl => "openssl",
            Self::Gzip => "gzip",
        }
    }
}

/// The name of a full archive, without its folder: `backup-20260310T020000Z.tar.zst.sealed`.
///
/// Ordered by time. Invariant: the time can be written: it is in the years 0000 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchiveName {
    secs: i64,
    form: ArchiveForm,
}

impl ArchiveName {
    /// The folder of a repository that archives lie in.
    pub const FOLDER: &'static str = "full";

    /// The name of an archive of this time, of which the fraction of a second is dropped. Years that cannot be
    /// written become the first or last that can.
    #[must_use]
    pub fn new(time: Timestamp, form: ArchiveForm) -> Self {
        Self { secs: time.secs.clamp(FIRST, LAST), form }
    }

    /// The time in the name, UTC.
    #[must_use]
    pub fn time(self) -> Timestamp {
        Timestamp::from_secs(self.secs)
    }

    /// The form that the name says.
    #[must_use]
    pub fn form(self) -> ArchiveForm {
        self.form
    }

    /// The name for a second later: no two archives are given one name.
    #[must_use]
    pub fn next(self) -> Self {
        Self::new(Timestamp::from_secs(self.secs.saturating_add(1)), self.form)
    }

    /// The name of its mark.
    #[must_use]
    pub fn mark(self) -> String {
        format!("{self}{MARK}")
    }

    /// The name of the file that `sha256sum -c` takes.
    #[must_use]
    pub fn checksum(self) -> String {
        format!("{self}{CHECKSUM}")
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_second(self.secs).unwrap_or_default();
        write!(f, "{PREFIX}{}{}", time.strftime(TIME), self.form.extension())
    }
}

/// The text is no name of a full archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the name of a full archive: backup-<YYYYMMDDTHHMMSS>Z and .tar.zst.sealed, .tar.gz.enc or .tar.gz"
)]
pub struct ArchiveNameError;

impl FromStr for ArchiveName {
    type Err = ArchiveNameError;

    /// Takes exactly what is printed, and the names of the earlier plugin, which are the same.
    fn from_str(text: &str) -> Result<Self, ArchiveNameError> {
        let rest = text.strip_prefix(PREFIX).ok_or(ArchiveNameError)?;
        let (time, extension) = rest.split_at_checked(TIME_LEN).ok_or(ArchiveNameError)?;
        let form = ArchiveForm::ALL.into_iter().find(|form| form.extension() == extension);
        let time = jiff::civil::DateTime::strptime(TIME, time)
            .and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC))
            .map_err(|_| ArchiveNameError)?;
        let name =
            Self::new(Timestamp::from_secs(time.timestamp().as_second()), form.ok_or(ArchiveNameError)?);
        // Whoever parses times is lenient; names are compared as texts elsewhere.
        if name.to_string() == text { Ok(name) } else { Err(ArchiveNameError) }
    }
}

/// What the name of an object in the folder of archives says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveObject {
    /// An archive.
    Archive(ArchiveName),
    /// The mark of an archive.
    Mark(ArchiveName),
    /// The checksum of an archive.
    Checksum(ArchiveName),
}

impl ArchiveObject {
    /// Reads a name without its folder; `None` for what is not ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(archive) = name.strip_suffix(MARK) {
            return archive.parse().ok().map(Self::Mark);
        }
        if let Some(archive) = name.strip_suffix(CHECKSUM) {
            return archive.parse().ok().map(Self::Checksum);
        }
        name.parse().ok().map(Self::Archive)
    }
}

/// What is said of a full archive when all of it is stored. One without a mark is partial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveMark {
    /// The archive that it is about.
    pub name: ArchiveName,
    /// Its stored bytes.
    pub size: u64,
    /// SHA-256 of these.
    pub sha256: [u8; 32],
    /// When the capture began.
    pub time: Timestamp,
    /// Name of the machine.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// The program and its version, such as `exuvia 0.1.0`.
    pub program: String,
    /// Who wrote it.
    pub writer: WriterId,
    /// Absolute path of the directory that it is of.
    pub root: Vec<u8>,
    /// What was chosen of it, in words: include sets, paths and exclusions.
    pub selection: Vec<String>,
    /// Free labels, sorted.
    pub tags: Vec<String>,
    /// Members, of any kind.
    pub members: u64,
    /// Members that are regular files.
    pub files: u64,
    /// Sum of the file sizes in bytes.
    pub bytes: u64,
    /// Length of the tar stream in bytes.
    pub tar_bytes: u64,
    /// False when some source file could not be read whole.
    pub complete: bool,
    /// The first errors (at most 1,000).
    pub errors: Vec<FileError>,
    /// How many errors there were in all.
    pub error_count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_time_and_form() {
        for (secs, form, text) in [
            (1_773_108_000, ArchiveForm::Sealed, "backup-20260310T020000Z.tar.zst.sealed"),
            (1_773_108_001, ArchiveForm::Openssl, "backup-20260310T020001Z.tar.gz.enc"),
            (-1, ArchiveForm::Gzip, "backup-19691231T235959Z.tar.gz"),
        ] {
            let name = ArchiveName::new(Timestamp { secs, nanos: 7 }, form);
            assert_eq!(name.to_string(), text);
            assert_eq!(text.parse(), Ok(name));
            assert_eq!((name.time(), name.form()), (Timestamp::from_secs(secs), form));
            assert_eq!(ArchiveObject::parse(text), Some(ArchiveObject::Archive(name)));
            assert_eq!(ArchiveObject::parse(&name.mark()), Some(ArchiveObject::Mark(name)));
            assert_eq!(ArchiveObject::parse(&name.checksum()), Some(ArchiveObject::Checksum(name)));
            assert!(name < name.next());
        }
    }

    #[test]
    fn times_that_cannot_be_written_become_the_nearest() {
        for (secs, text) in
            [(i64::MAX, "backup-99991230T220000Z.tar.gz"), (i64::MIN, "backup-00000101T000000Z.tar.gz")]
        {
            let name = ArchiveName::new(Timestamp::from_secs(secs), ArchiveForm::Gzip);
            assert_eq!(name.to_string(), text);
            assert_eq!(text.parse(), Ok(name));
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for text in [
            "",
            "backup-",
            "backup-20260310T020000Z",
            "backup-20260310T020000Z.tar",
            "backup-20260310T020000Z.tar.gz.mark.mark",
            "backup-20260310T020000Z.tar.gz.",
            "backup-20260310T020000.tar.gz",
            "backup-20260310t020000z.tar.gz",
            "backup-20261310T020000Z.tar.gz",
            "backup-20260310T020060Z.tar.gz",
            "backup-+026310T0200000Z.tar.gz",
            "backup- 0260310T020000Z.tar.gz",
            "backup-2026031\u{e9}T02000Z.tar.gz",
            "Backup-20260310T020000Z.tar.gz",
            "full/backup-20260310T020000Z.tar.gz",
        ] {
            assert_eq!(text.parse::<ArchiveName>(), Err(ArchiveNameError), "{text}");
            assert_eq!(ArchiveObject::parse(text), None, "{text}");
        }
    }
}
