//! Names of objects: `format-spec/` section 2.

use crate::model::{ObjectId, Timestamp};

/// The marker.
pub(crate) const MARKER: &str = "exuvia.json";

/// The folders of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Folder {
    /// Key objects.
    Keys,
    /// Packs.
    Packs,
    /// Index objects.
    Index,
    /// Snapshot records.
    Snapshots,
    /// Safety snapshots' records.
    Safety,
    /// gc records.
    Gc,
    /// Acceptances of marked snapshots.
    Accepted,
    /// Removal records.
    Removed,
}

impl Folder {
    /// The folder's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Packs => "packs",
            Self::Index => "index",
            Self::Snapshots => "snapshots",
            Self::Safety => "safety",
            Self::Gc => "gc",
            Self::Accepted => "accepted",
            Self::Removed => "removed",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [
            Self::Keys,
            Self::Packs,
            Self::Index,
            Self::Snapshots,
            Self::Safety,
            Self::Gc,
            Self::Accepted,
            Self::Removed,
        ]
        .into_iter()
        .find(|folder| folder.name() == name)
    }

    fn is_timed(self) -> bool {
        matches!(self, Self::Snapshots | Self::Safety | Self::Gc | Self::Accepted | Self::Removed)
    }
}

/// An object of ours as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// Seconds since 1970, for records whose names carry a time.
    pub time: Option<i64>,
    /// Its id.
    pub id: ObjectId,
    /// Stored bytes.
    pub size: u64,
}

/// Name of a pack.
#[must_use]
pub fn pack_name(id: &ObjectId) -> String {
    let id = id.to_string();
    format!("packs/{}/{id}", &id[..2])
}

/// Name of an object of a folder without times: keys and index objects.
#[must_use]
pub(crate) fn plain_name(folder: Folder, id: &ObjectId) -> String {
    format!("{}/{id}", folder.name())
}

/// Name of a record that carries a time.
#[must_use]
pub fn record_name(folder: Folder, time: Timestamp, id: &ObjectId) -> String {
    format!("{}/{}-{id}", folder.name(), utc(time))
}

/// A name taken apart: folder, time in seconds for timed records, id. `None` for names that are not
/// ours.
#[must_use]
pub fn parse_name(name: &str) -> Option<(Folder, Option<i64>, ObjectId)> {
    let (folder, rest) = name.split_once('/')?;
    let folder = Folder::from_name(folder)?;
    if folder == Folder::Packs {
        let (fan, id) = rest.split_once('/')?;
        return (id.len() == 64 && id.get(..2) == Some(fan))
            .then(|| Some((folder, None, id.parse().ok()?)))?;
    }
    if !folder.is_timed() {
        return Some((folder, None, rest.parse().ok()?));
    }
    let (time, id) = rest.split_at_checked(20)?;
    let id = id.strip_prefix('-')?;
    Some((folder, Some(parse_utc(time)?), id.parse().ok()?))
}

/// `YYYY-MM-DDTHH-MM-SSZ`.
fn utc(time: Timestamp) -> String {
    // Years outside 0000 to 9999 cannot be written; the record itself holds the exact time.
    let time = jiff::Timestamp::from_second(time.secs.clamp(-62_167_219_200, 253_402_300_799));
    time.unwrap_or_default().strftime("%Y-%m-%dT%H-%M-%SZ").to_string()
}

fn parse_utc(text: &str) -> Option<i64> {
    let time = jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%SZ", text).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    // One spelling only: what we would write.
    (utc(Timestamp::from_secs(time.as_second())) == text).then(|| time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        let id = ObjectId([0xab; 32]);
        let name = record_name(Folder::Snapshots, Timestamp::from_secs(1_771_459_200), &id);
        assert_eq!(name, format!("snapshots/2026-02-19T00-00-00Z-{id}"));
        assert_eq!(parse_name(&name), Some((Folder::Snapshots, Some(1_771_459_200), id)));
        assert_eq!(parse_name(&pack_name(&id)), Some((Folder::Packs, None, id)));
        assert_eq!(parse_name(&plain_name(Folder::Index, &id)), Some((Folder::Index, None, id)));
        for bad in [
            format!("packs/aa/{id}"),
            format!("packs/{id}"),
            format!("index/{}", id.to_string().to_uppercase()),
            format!("snapshots/2026-02-30T00-00-00Z-{id}"),
            format!("snapshots/2026-2-19T00-00-00Z-0{id}"),
            format!("other/{id}"),
            "exuvia.json".into(),
            "snapshots/é2026-02-19T00-00-00Z".into(),
        ] {
            assert_eq!(parse_name(&bad), None, "{bad}");
        }
    }
}
