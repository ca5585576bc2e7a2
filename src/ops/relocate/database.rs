//! Changes the paths in one database.

use std::collections::BTreeMap;
use std::path::Path;

use data_encoding::HEXLOWER;
use rusqlite::config::DbConfig;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, params};
use sha2::{Digest, Sha256};

use super::Mapping;
use crate::gather::json5;
use crate::gather::openclaw::{Holds, PLACES, Place};

/// Longest value that is changed, in bytes.
const MAX_VALUE: usize = 64 << 20;

/// Changes all places that the database has; returns each with the number of rows, unless that is zero.
pub(super) fn run(path: &Path, mapping: &Mapping) -> Result<Vec<(String, u64)>, String> {
    change(path, mapping).map_err(|e| e.to_string())
}

fn change(path: &Path, mapping: &Mapping) -> rusqlite::Result<Vec<(String, u64)>> {
    let mut db = open(path)?;
    let transaction = db.transaction()?;
    let mut keys = BTreeMap::new();
    let mut counts = vec![0; PLACES.len()];
    // Keys last: they are those of the paths that were met.
    for keys_turn in [false, true] {
        for (place, count) in PLACES.iter().zip(&mut counts) {
            if (place.holds == Holds::Key) == keys_turn && is_there(&transaction, place)? {
                *count = column(&transaction, place, mapping, &mut keys)?;
            }
        }
    }
    transaction.commit()?;
    // Says so when the log cannot be put into the database and removed.
    db.close().map_err(|(_, e)| e)?;
    let changed = PLACES.iter().zip(counts).filter(|(_, count)| *count > 0);
    Ok(changed.map(|(place, count)| (format!("{}.{}", place.table, place.column), count)).collect())
}

/// The content comes from a snapshot, and its schema with it: nothing in that may run.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    for (setting, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        // Both ends of a reference are changed, one after the other.
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false),
    ] {
        db.set_db_config(setting, value)?;
    }
    // Nobody shares it, so there is no need for a `-shm`.
    db.execute_batch("PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0;")?;
    Ok(db)
}

/// Whether the place is a column of an ordinary table. Schemas of other versions lack some.
fn is_there(db: &Connection, place: &Place) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?1 \
               AND sql NOT LIKE 'CREATE VIRTUAL%'";
    let column = "SELECT 1 FROM pragma_table_info(?1, 'main') WHERE name = ?2";
    let has = |column_name| db.prepare(column)?.exists(params![place.table, column_name]);
    Ok(db.prepare(sql)?.exists([place.table])?
        && has(place.column)?
        && place.only.map_or(Ok(true), |(name, _)| has(name))?)
}

/// Changes one column; returns the number of rows.
fn column(
    db: &Connection,
    place: &Place,
    mapping: &Mapping,
    keys: &mut BTreeMap<String, String>,
) -> rusqlite::Result<u64> {
    let Place { table, column, .. } = place;
    let only = place.only.map_or(String::new(), |(name, value)| format!(" AND \"{name}\" = '{value}'"));
    let rows = |row: &str| {
        format!("SELECT {row}, \"{column}\" FROM main.\"{table}\" WHERE typeof(\"{column}\") = 'text'{only}")
    };
    // A table without row numbers is small, and its rows are found by the value.
    let (mut query, by) = match db.prepare(&rows("_rowid_")) {
        Ok(query) => (query, "_rowid_".to_owned()),
        Err(_) => (db.prepare(&rows(&format!("\"{column}\"")))?, format!("\"{column}\"")),
    };
    let mut changes: Vec<(Value, String)> = Vec::new();
    let mut found = query.query(())?;
    while let Some(row) = found.next()? {
        let ValueRef::Text(bytes) = row.get_ref(1)? else { continue };
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_VALUE);
        if let Some(new) = text.and_then(|old| changed(place.holds, old, mapping, keys)) {
            changes.push((row.get(0)?, new));
        }
    }
    // A row that says the same of the new place is of a time when the state dir was there before: the
    // one in use goes before it.
    let sql = format!("UPDATE OR REPLACE main.\"{table}\" SET \"{column}\" = ?2 WHERE {by} = ?1{only}");
    let mut update = db.prepare(&sql)?;
    let mut count = 0;
    for (row, new) in changes {
        count += update.execute(params![row, new])? as u64;
    }
    Ok(count)
}

fn changed(
    holds: Holds,
    old: &str,
    mapping: &Mapping,
    keys: &mut BTreeMap<String, String>,
) -> Option<String> {
    match holds {
        Holds::Path => {
            let new = mapping.apply(old)?;
            keys.insert(key(old), key(&new));
            Some(new)
        }
        Holds::Json => match json5::exchange(old, &mut |string| mapping.apply(string)) {
            Ok((new, 1..)) => Some(new),
            _ => None,
        },
        Holds::Key => keys.get(old).cloned(),
    }
}

fn key(path: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(path.as_bytes()))
}
