//! Names of users and groups.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::model::Owner;

/// Bytes read of a database of users; the rest of a larger one is not looked at.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Longest name taken.
const MAX_NAME: usize = 255;

/// The users and groups of this machine, by number and by name.
///
/// Read from `/etc/passwd` and `/etc/group`, not through the C library: a lookup there may ask the
/// network, and in a static program it does not work at all. An unknown name is empty, and restore
/// then goes by number.
#[derive(Clone, Debug, Default)]
pub struct OwnerNames {
    users: Names,
    groups: Names,
}

#[derive(Clone, Debug, Default)]
struct Names {
    by_id: HashMap<u32, String>,
    by_name: HashMap<String, u32>,
}

impl Names {
    /// Both files have lines of `name:password:id:...`; lines of any other form are passed over.
    fn parse(bytes: &[u8]) -> Self {
        let mut names = Self::default();
        for line in bytes.split(|&b| b == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let mut fields = line.trim().split(':');
            let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else { continue };
            let Ok(id) = id.parse::<u32>() else { continue };
            // `+name` and `-name` refer to a network service; u32::MAX means "no id" to the system.
            let usable = !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with(['+', '-', '#']);
            if usable && id != u32::MAX {
                names.by_id.entry(id).or_insert_with(|| name.to_owned());
                names.by_name.entry(name.to_owned()).or_insert(id);
            }
        }
        names
    }
}

fn read(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A machine without these files, as in a minimal container, has no names: numbers do.
    let _ = File::open(Path::new(path)).map(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    bytes
}

/// The home directory of a user of this machine.
#[must_use]
pub fn home_of(user: &str) -> Option<PathBuf> {
    home_in(&read("/etc/passwd"), user)
}

fn home_in(passwd: &[u8], user: &str) -> Option<PathBuf> {
    let lines = passwd.split(|&b| b == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut users = lines.map(|line| line.trim().split(':'));
    let home = users.find_map(|mut fields| fields.next().filter(|name| *name == user).and(fields.nth(4)))?;
    Some(PathBuf::from(home)).filter(|home| home.is_absolute())
}

impl OwnerNames {
    /// Reads the databases of this machine.
    #[must_use]
    pub fn load() -> Self {
        Self::parse(&read("/etc/passwd"), &read("/etc/group"))
    }

    /// Takes the content of the two files.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: Names::parse(passwd), groups: Names::parse(group) }
    }

    /// The name of a user.
    #[must_use]
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.users.by_id.get(&uid).map(String::as_str)
    }

    /// The name of a group.
    #[must_use]
    pub fn group(&self, gid: u32) -> Option<&str> {
        self.groups.by_id.get(&gid).map(String::as_str)
    }

    /// Owner and group with their names, as an entry records them.
    #[must_use]
    pub fn owner(&self, uid: u32, gid: u32) -> Owner {
        let user = self.user(uid).unwrap_or_default().to_owned();
        Owner { uid, gid, user, group: self.group(gid).unwrap_or_default().to_owned() }
    }

    /// The ids under which a recorded owner is known here: by name where the name exists, since the
    /// same person may have another number on another machine; else by the recorded number.
    #[must_use]
    pub fn resolve(&self, owner: &Owner) -> (u32, u32) {
        let uid = self.users.by_name.get(&owner.user).copied().unwrap_or(owner.uid);
        let gid = self.groups.by_name.get(&owner.group).copied().unwrap_or(owner.gid);
        (uid, gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_found_by_name() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nann:x:7:7::/home/ann:\nbad:x:8:8::home:\nshort:x:1\n";
        assert_eq!(home_in(passwd, "ann"), Some("/home/ann".into()));
        for other in ["an", "bad", "short", "", "x"] {
            assert_eq!(home_in(passwd, other), None, "{other}");
        }
    }
}
