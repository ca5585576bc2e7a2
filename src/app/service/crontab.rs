//! The line of a crontab, among lines that are somebody else's.

use super::{Error, Service, line};

/// What our line ends with: a comment for the shell, and what we find it by.
const END: &str = "# exuvia service";

/// The line: every five minutes, the daemon does what is due and ends.
pub(super) fn job(service: &Service) -> Result<String, Error> {
    let mut command = String::new();
    for (name, value) in &service.environment {
        command += &format!("{name}={} ", word(line(name, value)?));
    }
    command += &word(line("the program's path", service.program.as_os_str())?);
    // Quiet: what it prints is mailed, each time.
    command += " --quiet daemon --once";
    // For cron, a bare percent sign ends the command.
    Ok(format!("*/5 * * * * {} {END}", command.replace('%', "\\%")))
}

/// A word for the shell.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether `crontab -l` failed because there is none. Any other complaint may hide one, which a new one would replace.
pub(super) fn is_none(complaint: &str) -> bool {
    // Cron's own, and BusyBox's, which names the file that it looked for.
    complaint.contains("no crontab")
        || (complaint.contains("can't open") && complaint.contains("No such file"))
}

fn is_ours(line: &[u8]) -> bool {
    line.trim_ascii_end().ends_with(END.as_bytes())
}

/// Our line in a crontab.
pub(super) fn find(crontab: &[u8]) -> Option<String> {
    let ours = crontab.split(|&b| b == b'\n').find(|line| is_ours(line))?;
    Some(String::from_utf8_lossy(ours.trim_ascii()).into_owned())
}

/// The crontab with our line in it, or without. The bytes of all other lines stay.
pub(super) fn with(crontab: &[u8], job: Option<&str>) -> Vec<u8> {
    let mut text: Vec<u8> =
        crontab.split_inclusive(|&b| b == b'\n').filter(|line| !is_ours(line)).flatten().copied().collect();
    if let Some(job) = job {
        if text.last().is_some_and(|&last| last != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(job.as_bytes());
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn service(program: &str) -> Service {
        Service {
            program: program.into(),
            environment: vec![("EXUVIA_CONFIG", "/c d/50%.toml".into())],
            writes: Vec::new(),
            low_priority: true,
        }
    }

    #[test]
    fn cron_and_shell_read_the_same_words() {
        assert_eq!(
            job(&service("/usr/bin/exuvia")).unwrap(),
            "*/5 * * * * EXUVIA_CONFIG='/c d/50\\%.toml' /usr/bin/exuvia --quiet daemon --once # exuvia service"
        );
        assert_eq!(word("/it's"), r"'/it'\''s'");
        assert!(job(&service("/a\nb")).is_err());
    }

    #[test]
    fn only_a_crontab_that_is_not_there_is_empty() {
        assert!(is_none("no crontab for ann"));
        assert!(is_none("crontab: can't open 'ann': No such file or directory"));
        for other in [
            "You (ann) are not allowed to use this program (crontab)",
            "crontab: can't open 'ann': Permission denied",
            "",
        ] {
            assert!(!is_none(other), "{other}");
        }
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        let job = job(&service("/usr/bin/exuvia")).unwrap();
        let theirs = b"MAILTO=ann\n0 3 * * * /usr/bin/other # not exuvia service's\n\n5 5 * * * x \xff";
        let both = with(theirs, Some(&job));
        assert_eq!(find(&both).unwrap(), job);
        assert_eq!(with(&both, Some(&job)), both);
        assert_eq!(with(&both, None), [&theirs[..], b"\n"].concat());
        assert_eq!(find(theirs), None);
        let only = with(b"", Some(&job));
        assert_eq!(with(&only, None), b"");
        assert_eq!(with(&with(&only, Some("1 1 1 1 1 x # exuvia service")), None), b"");
    }
}
