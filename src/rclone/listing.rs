//! The listing of a folder.

use serde::Deserialize;

use super::fault::{Failure, Fault};

/// An object of a listing. The folders above it are not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseName {
    /// Its name without folders.
    pub name: String,
    /// Stored bytes.
    pub size: u64,
}

#[derive(Deserialize)]
struct Item {
    name: String,
    /// Negative where the backend does not know, which none says of bytes that we stored.
    size: i64,
}

/// Understands a listing in version 2 of restic's interface. Leaves out what is torn or still being
/// written: names that begin with a dot, and rclone's own `.partial` files.
pub fn parse_listing(json: &[u8]) -> Result<Vec<BaseName>, Failure> {
    let items: Option<Vec<Item>> = serde_json::from_slice(json).map_err(|e| Failure {
        message: format!("the listing cannot be read: {e}"),
        fault: Fault::Transient,
    })?;
    let ours = |item: Item| {
        let torn = item.name.starts_with('.') || item.name.ends_with(".partial");
        let size = u64::try_from(item.size).ok()?;
        (!torn && !item.name.is_empty() && !item.name.contains('/'))
            .then_some(BaseName { name: item.name, size })
    };
    Ok(items.unwrap_or_default().into_iter().filter_map(ours).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_understood() {
        let list = |text: &str| parse_listing(text.as_bytes()).map(|l| l.len());
        assert_eq!(list("[]").unwrap(), 0);
        assert_eq!(list("null").unwrap(), 0);
        let found = parse_listing(br#"[{"name":"abcd","size":1267},{"name":"x","size":0}]"#).unwrap();
        assert_eq!(found.first(), Some(&BaseName { name: "abcd".into(), size: 1267 }));
        assert_eq!(found.len(), 2);
        let torn = r#"[{"name":".x","size":1},{"name":"a.1f2e.partial","size":1},{"name":"b","size":-1},
            {"name":"a/b","size":1},{"name":"","size":1}]"#;
        assert_eq!(list(torn).unwrap(), 0);
        for broken in ["", "[", "[{\"name\":\"a\"", "{}", "Not Found\n", "[{\"name\":1,\"size\":1}]", "[]x"] {
            assert!(list(broken).is_err(), "{broken}");
        }
    }
}
