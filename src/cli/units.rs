//! Sizes, durations and times as people and as scripts read them.

use jiff::tz::TimeZone;

use crate::model::Timestamp;

const IEC: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `1.5 GiB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would round to 1024 belongs to the next unit.
    while value >= 1023.95 && unit + 1 < IEC.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", IEC[unit])
}

/// `2.1 s`, `3 min 20 s`, `1 h 05 min`.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `1 file`, `2 files`.
pub(super) fn count(n: u64, one: &str) -> String {
    // `days`, and `entries`.
    let stem = one.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u']));
    match (n, stem) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) => format!("{n} {stem}ies"),
        (_, None) => format!("{n} {one}s"),
    }
}

/// RFC 3339 in UTC, for scripts.
pub(super) fn rfc3339(time: Timestamp) -> String {
    instant(time).to_string()
}

/// Local time to the second, for people.
pub(super) fn local(time: Timestamp) -> String {
    instant(time).to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Local time to the minute.
pub(super) fn local_minutes(time: Timestamp) -> String {
    instant(time).to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// File systems hold times that no calendar has; they are shown as its end.
fn instant(time: Timestamp) -> jiff::Timestamp {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    jiff::Timestamp::new(time.secs, nanos).unwrap_or(if time.secs < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    })
}

/// `drwxr-xr-x`, as `ls -l` shows it.
pub(super) fn permissions(kind: char, mode: u32) -> String {
    let mut out = String::from(kind);
    for (shift, special, with, without) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (bits & 1 != 0, mode & special != 0) {
            (true, false) => 'x',
            (true, true) => with,
            (false, true) => without,
            (false, false) => '-',
        });
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn durations() {
        for (ms, want) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min 00 s"),
            (3_599_999, "59 min 59 s"),
            (3_900_000, "1 h 05 min"),
        ] {
            assert_eq!(duration(ms), want, "{ms}");
        }
    }

    #[test]
    fn counts() {
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(2, "directory"), "2 directories");
    }

    #[test]
    fn times_outside_the_calendar_do_not_fail() {
        assert_eq!(rfc3339(Timestamp::from_secs(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(Timestamp { secs: -1, nanos: 500_000_000 }), "1969-12-31T23:59:59.5Z");
        assert!(rfc3339(Timestamp::from_secs(i64::MAX)).starts_with("9999-"));
        assert!(!local(Timestamp::from_secs(i64::MIN)).is_empty());
    }

    #[test]
    fn permission_bits() {
        assert_eq!(permissions('d', 0o755), "drwxr-xr-x");
        assert_eq!(permissions('-', 0o6640), "-rwSr-S---");
        assert_eq!(permissions('d', 0o1777), "drwxrwxrwt");
        assert_eq!(permissions('-', 0o4711), "-rws--x--x");
    }
}
