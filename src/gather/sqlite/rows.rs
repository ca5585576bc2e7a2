//! Which tables of two images of a database differ, and in how many rows.
//!
//! Both images are attached to one connection, and SQLite itself looks up each row of one in the other by
//! its key: it knows their encodings, collations and orders. No row is kept, nothing is sorted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};

use super::CaptureError;
use super::capture::{classify, harden, resolve, uri};
use super::vfs::{forget_modules, open_source};
use crate::report::Monitor;

/// The schema names of the two images.
const OLD: &str = "main";
const NEW: &str = "other";
/// Longest value or row in bytes: what is longer makes its table one that is not compared.
const MAX_VALUE: i32 = 64 << 20;
/// Instructions of SQLite's virtual machine between two looks whether to go on.
const STRIDE: i32 = 20_000;
/// Instructions allowed in all, and for each byte of both images. A sound table takes a tenth of that; one
/// made to keep us busy, with pages that several parents share, would take for ever.
const INSTRUCTIONS: i64 = 50_000_000;
const INSTRUCTIONS_A_BYTE: i64 = 32;
/// Tables and other objects looked at.
const MAX_OBJECTS: usize = 20_000;
/// Columns compared in one group: the depth of an expression is limited.
const GROUP: usize = 40;

/// How an object of the schema differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaChange {
    /// Only the new image has it.
    Added,
    /// Only the old image has it.
    Removed,
    /// Both have it, with other definitions.
    Altered,
    /// Its definition is the same.
    Same,
}

/// How many rows differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows whose key only the new image has.
    pub added: u64,
    /// Rows whose key only the old image has.
    pub removed: u64,
    /// Rows of one key with other values.
    pub changed: u64,
}

/// A table that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDifference {
    /// Its name.
    pub name: String,
    /// Its definition.
    pub schema: SchemaChange,
    /// It holds the data of a virtual table, such as a full-text index, or is SQLite's own.
    pub internal: bool,
    /// Its rows, or why they could not be compared.
    pub rows: Counted,
}

/// An index, view, trigger or virtual table that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectDifference {
    /// `index`, `view`, `trigger` or `virtual table`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// How it differs; never [`SchemaChange::Same`].
    pub schema: SchemaChange,
}

/// What differs between two images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Tables that differ or could not be compared: those of the application first.
    pub tables: Vec<TableDifference>,
    /// Other objects.
    pub objects: Vec<ObjectDifference>,
    /// Tables that both images have with the same rows.
    pub tables_same: u64,
}

/// Two images, open.
pub struct Images {
    connection: Connection,
    left: Arc<AtomicI64>,
}

/// One row of the schema.
struct Object {
    kind: &'static str,
    sql: String,
    /// What it is called exactly; a name that is no text cannot be asked for.
    exact: Option<String>,
}

/// Rows that differ, or why they are not counted.
pub type Counted = Result<RowCounts, String>;

type Schema = BTreeMap<(&'static str, String), Object>;

impl Images {
    /// Opens two database files that no process writes to. A `-wal` or journal beside them is not looked
    /// at; the files may be removed once they are open.
    ///
    /// # Errors
    ///
    /// When one of them is missing or cannot be opened. A file that is no database may show only in
    /// [`Images::differences`].
    pub fn open(old: &Path, new: &Path, monitor: &Arc<dyn Monitor>) -> Result<Self, CaptureError> {
        let (old, new) = (resolve(old)?, resolve(new)?);
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let total = i64::try_from(bytes(&old).saturating_add(bytes(&new))).unwrap_or(i64::MAX);
        let budget = total.saturating_mul(INSTRUCTIONS_A_BYTE).saturating_add(INSTRUCTIONS);
        let left = Arc::new(AtomicI64::new(budget));
        let open = || -> rusqlite::Result<Connection> {
            let parameters = ["mode=ro", "immutable=1"];
            let mut connection = open_source(&uri(&old, &parameters))?;
            harden(&connection)?;
            forget_modules(&connection)?;
            connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE)?;
            let (left, monitor) = (Arc::clone(&left), Arc::clone(monitor));
            let stop = move || {
                let before = left.fetch_sub(STRIDE.into(), Ordering::Relaxed);
                before <= STRIDE.into() || monitor.cancelled()
            };
            connection.progress_handler(STRIDE, Some(stop))?;
            // An index made for one query would be as large as its table.
            connection.execute_batch("PRAGMA mmap_size=0; PRAGMA automatic_index=0;")?;
            connection.execute(&format!("ATTACH ?1 AS {NEW}"), [uri(&new, &parameters)])?;
            connection
                .execute_batch(&format!("PRAGMA {OLD}.cache_size=-8192; PRAGMA {NEW}.cache_size=-8192;"))?;
            Ok(connection)
        };
        let connection = open().map_err(|e| classify(&old, e))?;
        Ok(Self { connection, left })
    }

    /// Compares them. Runs until it is done, the monitor is cancelled, or far more work was done than
    /// sound databases of this size ask for.
    ///
    /// # Errors
    ///
    /// When a schema cannot be read; what is wrong with a single table stands in its entry.
    pub fn differences(&self) -> Result<Differences, CaptureError> {
        let failed = |e: rusqlite::Error| CaptureError::Corrupt(e.to_string());
        let old = self.schema(OLD).map_err(failed)?;
        let new = self.schema(NEW).map_err(failed)?;
        let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let virtuals: BTreeSet<&str> =
            keys.iter().filter(|(kind, _)| *kind == VIRTUAL).map(|(_, name)| name.as_str()).collect();
        let mut found = Differences::default();
        for key in keys {
            let (kind, name) = key;
            let (from, to) = (old.get(key), new.get(key));
            let schema = match (from, to) {
                (None, _) => SchemaChange::Added,
                (_, None) => SchemaChange::Removed,
                (Some(from), Some(to)) if from.sql != to.sql => SchemaChange::Altered,
                _ => SchemaChange::Same,
            };
            if *kind != TABLE {
                if schema != SchemaChange::Same {
                    found.objects.push(ObjectDifference { kind, name: name.clone(), schema });
                }
                continue;
            }
            let rows = match from.or(to).and_then(|object| object.exact.as_deref()) {
                Some(exact) => self.rows(exact, schema).unwrap_or_else(|e| Err(self.reason(&e))),
                None => Err("its name is no text".to_owned()),
            };
            if schema == SchemaChange::Same && rows == Ok(RowCounts::default()) {
                found.tables_same += 1;
                continue;
            }
            let internal = name.starts_with("sqlite_") || belongs_to(name, &virtuals);
            found.tables.push(TableDifference { name: name.clone(), schema, internal, rows });
        }
        found.tables.sort_by_key(|table| table.internal);
        Ok(found)
    }

    fn reason(&self, error: &rusqlite::Error) -> String {
        match error {
            e if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                let spent = self.left.load(Ordering::Relaxed) <= 0;
                if spent { "comparing it takes too much work" } else { "interrupted" }.to_owned()
            }
            // Without the statement, which is ours.
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            other => other.to_string(),
        }
    }

    fn schema(&self, schema: &str) -> rusqlite::Result<Schema> {
        let sql = format!("SELECT type, name, sql, rootpage FROM {schema}.sqlite_schema");
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(())?;
        let mut objects = Schema::new();
        while let Some(row) = rows.next()? {
            let text = |column| row.get_ref(column).map(bytes);
            let kind = match text(0)? {
                b"table" if matches!(row.get_ref(3)?, ValueRef::Integer(root) if root > 0) => TABLE,
                b"table" => VIRTUAL,
                b"index" => "index",
                b"view" => "view",
                b"trigger" => "trigger",
                _ => continue,
            };
            let name = text(1)?;
            let exact = std::str::from_utf8(name).ok().map(ToOwned::to_owned);
            let sql = String::from_utf8_lossy(text(2)?).into_owned();
            objects.insert((kind, String::from_utf8_lossy(name).into_owned()), Object { kind, sql, exact });
            if objects.len() > MAX_OBJECTS {
                break;
            }
        }
        // Made by SQLite itself for a table's own constraints: they say nothing that the table does not.
        objects.retain(|(_, name), object| object.kind != "index" || !name.starts_with("sqlite_autoindex_"));
        Ok(objects)
    }

    fn rows(&self, table: &str, schema: SchemaChange) -> rusqlite::Result<Counted> {
        let all = |schema| self.count(schema, table);
        Ok(match schema {
            SchemaChange::Added => Ok(RowCounts { added: all(NEW)?, ..RowCounts::default() }),
            SchemaChange::Removed => Ok(RowCounts { removed: all(OLD)?, ..RowCounts::default() }),
            SchemaChange::Altered | SchemaChange::Same => self.compare(table)?,
        })
    }

    fn count(&self, schema: &str, table: &str) -> rusqlite::Result<u64> {
        let sql = format!("SELECT count(*) FROM {schema}.{} NOT INDEXED", quoted(table));
        self.connection.query_row(&sql, (), |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
    }

    /// Compares the rows of a table that both images have.
    fn compare(&self, table: &str) -> rusqlite::Result<Counted> {
        let (old, new) = (self.shape(OLD, table)?, self.shape(NEW, table)?);
        let (join, present) = match (&old.row_id, &new.row_id) {
            (Some(a), Some(b)) if old.by_row_id() && new.by_row_id() => {
                (format!("a.{a} = b.{b}"), format!("b.{b}"))
            }
            (_, b) if !old.key.is_empty() && old.key == new.key => {
                // Not `=`: in a table with row ids a key may be NULL.
                let pairs = old.key.iter().map(|key| quoted(key)).map(|key| format!("a.{key} IS b.{key}"));
                let first = old.key.first().map(|key| quoted(key)).unwrap_or_default();
                let present = b.as_ref().map_or(first, |b| (*b).to_owned());
                (pairs.collect::<Vec<_>>().join(" AND "), format!("b.{present}"))
            }
            _ => {
                // Rows that cannot be told one from another: all that can be said is how many there are.
                let (before, after) = (self.count(OLD, table)?, self.count(NEW, table)?);
                return Ok(Err(format!("its key is another one; {before} rows before, {after} after")));
            }
        };
        let differs = |column: &String| {
            let column = quoted(column);
            format!("a.{column} COLLATE BINARY IS NOT b.{column}")
        };
        let both: Vec<_> = old.columns.iter().filter(|c| new.columns.contains(c)).map(differs).collect();
        let groups: Vec<_> = both.chunks(GROUP).map(|group| format!("({})", group.join(" OR "))).collect();
        let differ = if groups.is_empty() { "0".to_owned() } else { groups.join(" OR ") };
        let table_name = quoted(table);
        let sql = format!(
            "SELECT count(*), count({present}), \
             count(CASE WHEN {present} IS NOT NULL AND ({differ}) THEN 1 END) \
             FROM {OLD}.{table_name} AS a NOT INDEXED LEFT JOIN {NEW}.{table_name} AS b ON {join}"
        );
        let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(i64::unsigned_abs);
        let (before, kept, changed) = self
            .connection
            .query_row(&sql, (), |row| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?)))?;
        let after = self.count(NEW, table)?;
        Ok(Ok(RowCounts { added: after.saturating_sub(kept), removed: before.saturating_sub(kept), changed }))
    }

    /// What a table's rows are known by, and what they hold.
    fn shape(&self, schema: &str, table: &str) -> rusqlite::Result<Shape> {
        let sql = format!("PRAGMA {schema}.table_xinfo({})", quoted(table));
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(())?;
        let (mut columns, mut key, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let mut integer = false;
        while let Some(row) = rows.next()? {
            let name: String = row.get(1)?;
            let place: i64 = row.get(5)?;
            if place > 0 {
                integer = bytes(row.get_ref(2)?).eq_ignore_ascii_case(b"INTEGER");
                key.push((place, name.clone()));
            }
            names.push(name.to_ascii_lowercase());
            // What is computed from other columns is computed by functions; the columns say it all.
            if row.get::<_, i64>(6)? == 0 {
                columns.push(name);
            }
        }
        let free = ["rowid", "_rowid_", "oid"].into_iter().find(|id| !names.iter().any(|name| name == id));
        let row_id = free.filter(|id| {
            let sql = format!("SELECT a.{id} FROM {schema}.{} AS a LIMIT 0", quoted(table));
            self.connection.prepare(&sql).is_ok()
        });
        key.sort();
        let key: Vec<_> = key.into_iter().map(|(_, name)| name).collect();
        Ok(Shape { integer_key: integer && key.len() == 1, row_id, key, columns })
    }
}

const TABLE: &str = "table";
const VIRTUAL: &str = "virtual table";

/// What a table's rows are known by, and what they hold.
struct Shape {
    /// A name for the row id, if the table has one and it can be named.
    row_id: Option<&'static str>,
    /// The columns of the primary key, in its order.
    key: Vec<String>,
    /// The key is another name of the row id.
    integer_key: bool,
    /// The columns that are stored.
    columns: Vec<String>,
}

impl Shape {
    /// Row ids stay only where they are the key; a table without a key has nothing else.
    fn by_row_id(&self) -> bool {
        self.key.is_empty() || self.integer_key
    }
}

fn bytes(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => &[],
    }
}

/// True for a table that holds the data of a virtual one: it is called as that one, and more.
fn belongs_to(name: &str, virtuals: &BTreeSet<&str>) -> bool {
    name.match_indices('_').any(|(at, _)| name.get(..at).is_some_and(|base| virtuals.contains(base)))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::report::Silent;

    struct Pair {
        dir: tempfile::TempDir,
    }

    impl Pair {
        /// Two databases: made by the same statements, then each changed by its own.
        fn new(both: &str, old: &str, new: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (name, sql) in [("old", old), ("new", new)] {
                let connection = Connection::open(dir.path().join(name)).unwrap();
                connection.execute_batch(both).unwrap();
                connection.execute_batch(sql).unwrap();
            }
            Self { dir }
        }

        fn images(&self) -> Images {
            let monitor: Arc<dyn Monitor> = Arc::new(Silent);
            Images::open(&self.dir.path().join("old"), &self.dir.path().join("new"), &monitor).unwrap()
        }

        fn differences(&self) -> Differences {
            self.images().differences().unwrap()
        }

        /// Name, definition, and rows added, removed and changed of each table that differs.
        fn tables(&self) -> Vec<(String, SchemaChange, [u64; 3])> {
            let rows = |t: &TableDifference| {
                let rows = t.rows.as_ref().unwrap();
                [rows.added, rows.removed, rows.changed]
            };
            self.differences().tables.iter().map(|t| (t.name.clone(), t.schema, rows(t))).collect()
        }
    }

    const NUMBERS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)";

    #[test]
    fn rows_are_counted_by_whatever_their_key_is() {
        for (definition, shadowed) in [
            ("t(k INTEGER PRIMARY KEY, v)", false),
            ("t(k INT, v)", false),
            ("t(k TEXT PRIMARY KEY, v)", false),
            ("t(k TEXT PRIMARY KEY, v) WITHOUT ROWID", false),
            ("t(rowid TEXT, k, v, PRIMARY KEY(v, k)) WITHOUT ROWID", true),
            ("t(k TEXT COLLATE NOCASE PRIMARY KEY DESC, v)", false),
            ("t(rowid, _rowid_, oid, k TEXT PRIMARY KEY, v)", true),
            ("t(\"we\"\"ird\", k INTEGER PRIMARY KEY, v, w AS (abs(k)))", true),
        ] {
            let by_value = definition.contains("KEY(v, k)");
            let columns = if shadowed { "(k, v)" } else { "" };
            let both = format!(
                "CREATE TABLE {definition}; {NUMBERS} INSERT INTO t{columns} SELECT i, 'v' || i FROM n;"
            );
            let pair = Pair::new(
                &both,
                "DELETE FROM t WHERE v = 'v7'",
                "DELETE FROM t WHERE v IN ('v1', 'v2', 'v1000'); UPDATE t SET v = 'x' WHERE v IN ('v500', 'v501');",
            );
            // A row whose key changes is another row.
            let want = if by_value { [3, 5, 0] } else { [1, 3, 2] };
            assert_eq!(pair.tables(), [("t".to_owned(), SchemaChange::Same, want)], "{definition}");
        }
    }

    #[test]
    fn only_bytes_count_as_equal() {
        let pair = Pair::new(
            "CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT COLLATE NOCASE)",
            "INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, NULL), (4, 'same')",
            "INSERT INTO t VALUES (1, 'A'), (2, NULL), (3, ''), (4, 'same')",
        );
        assert_eq!(pair.tables(), [("t".to_owned(), SchemaChange::Same, [0, 0, 2])]);
    }

    #[test]
    fn a_row_replaced_under_its_key_is_changed() {
        // A new row id, an old key.
        let pair = Pair::new(
            "CREATE TABLE kv(k TEXT PRIMARY KEY, v); INSERT INTO kv VALUES ('a', 1), ('b', 2), (NULL, 3);",
            "",
            "INSERT OR REPLACE INTO kv VALUES ('a', 10)",
        );
        assert_eq!(pair.tables(), [("kv".to_owned(), SchemaChange::Same, [0, 0, 1])]);
    }

    #[test]
    fn lookups_use_the_key() {
        let both =
            "CREATE TABLE t(k TEXT PRIMARY KEY, v); CREATE TABLE w(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID;";
        let fill = format!(
            "{NUMBERS} INSERT INTO t SELECT i, i FROM n, (SELECT 1); {NUMBERS} INSERT INTO w SELECT i, i FROM n;"
        );
        let images = Pair::new(&format!("{both}{fill}"), "", "").images();
        let before = images.left.load(Ordering::Relaxed);
        assert_eq!(images.differences().unwrap().tables_same, 2);
        // A scan for each row would take a hundred times as much.
        let spent = before - images.left.load(Ordering::Relaxed);
        assert!(spent < 400_000, "{spent} instructions");
    }

    #[test]
    fn the_schema_is_compared_too() {
        let pair = Pair::new(
            "CREATE TABLE same(a); CREATE TABLE wider(a INTEGER PRIMARY KEY, b); CREATE TABLE rekeyed(a, b);
             CREATE INDEX gone ON same(a); INSERT INTO wider VALUES (1, 2), (3, 4); INSERT INTO rekeyed VALUES (1, 2);",
            "CREATE TABLE dropped(a); INSERT INTO dropped VALUES (1), (2);",
            "DROP INDEX gone; ALTER TABLE wider ADD COLUMN c; UPDATE wider SET b = 5 WHERE a = 1;
             CREATE TABLE made(a); INSERT INTO made VALUES (1); CREATE VIEW seen AS SELECT * FROM same;
             DROP TABLE rekeyed; CREATE TABLE rekeyed(a PRIMARY KEY, b) WITHOUT ROWID;",
        );
        let found = pair.differences();
        let tables: Vec<_> =
            found.tables.iter().map(|t| (t.name.as_str(), t.schema, t.rows.as_ref().ok())).collect();
        let rows = |added, removed, changed| RowCounts { added, removed, changed };
        assert_eq!(
            tables,
            [
                ("dropped", SchemaChange::Removed, Some(&rows(0, 2, 0))),
                ("made", SchemaChange::Added, Some(&rows(1, 0, 0))),
                ("rekeyed", SchemaChange::Altered, None),
                ("wider", SchemaChange::Altered, Some(&rows(0, 0, 1))),
            ]
        );
        let text = found.tables[2].rows.as_ref().unwrap_err();
        assert_eq!(text, "its key is another one; 1 rows before, 0 after");
        let object = |kind, name: &str, schema| ObjectDifference { kind, name: name.to_owned(), schema };
        assert_eq!(
            found.objects,
            [object("index", "gone", SchemaChange::Removed), object("view", "seen", SchemaChange::Added)]
        );
        assert_eq!(found.tables_same, 1);
    }

    #[test]
    fn tables_of_virtual_tables_come_last() {
        let pair = Pair::new(
            "CREATE VIRTUAL TABLE a USING fts5(body); CREATE TABLE z(k INTEGER PRIMARY KEY);",
            "",
            "INSERT INTO a VALUES ('some words'); INSERT INTO z VALUES (1);",
        );
        let found = pair.differences();
        assert_eq!((found.tables[0].name.as_str(), found.tables[0].internal), ("z", false));
        assert!(found.tables.len() > 2 && found.tables[1..].iter().all(|t| t.internal), "{found:?}");
        assert!(found.tables.iter().all(|t| t.rows.is_ok()) && found.objects.is_empty(), "{found:?}");
    }

    #[test]
    fn a_module_or_collation_that_we_lack_hurts_one_table_at_most() {
        let pair = Pair::new(
            "CREATE TABLE t(k INTEGER PRIMARY KEY, v); CREATE TABLE u(k INTEGER PRIMARY KEY, v);
             PRAGMA writable_schema=1;
             UPDATE sqlite_schema SET sql = 'CREATE TABLE u(k INTEGER PRIMARY KEY, v COLLATE nobody)' WHERE name = 'u';
             INSERT INTO sqlite_schema VALUES ('table', 'vec', 'vec', 0, 'CREATE VIRTUAL TABLE vec USING vec0(x)');
             PRAGMA writable_schema=0;",
            "",
            "INSERT INTO t VALUES (1, 2); INSERT INTO u(k) VALUES (7);",
        );
        let want = |name: &str| (name.to_owned(), SchemaChange::Same, [1, 0, 0]);
        assert_eq!(pair.tables(), [want("t"), want("u")]);
    }

    #[test]
    fn nothing_of_a_schema_runs() {
        // A view in the place of a table, a trigger, a computed column that never ends.
        let pair = Pair::new(
            &format!(
                "CREATE TABLE t(k INTEGER PRIMARY KEY, w AS (zeroblob(900000000)), v);
                 CREATE VIEW v AS {NUMBERS} SELECT * FROM n a, n b, n c, n d, n e;
                 CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END;"
            ),
            "INSERT INTO t(k, v) VALUES (1, 1)",
            "INSERT INTO t(k, v) VALUES (1, 2)",
        );
        assert_eq!(pair.tables(), [("t".to_owned(), SchemaChange::Same, [0, 0, 1])]);
    }

    #[test]
    fn too_much_work_and_a_cancelled_run_end_it() {
        struct Cancelled(AtomicBool);
        impl Monitor for Cancelled {
            fn cancelled(&self) -> bool {
                self.0.load(Ordering::Relaxed)
            }
        }
        let both = format!(
            "CREATE TABLE t(k INTEGER PRIMARY KEY, v);
             {NUMBERS} INSERT INTO t SELECT 50 * i + j, i FROM n, (SELECT i AS j FROM n WHERE i <= 50);"
        );
        let pair = Pair::new(&both, "", "UPDATE t SET v = 0 WHERE k = 101");
        let images = pair.images();
        images.left.store(100_000, Ordering::Relaxed);
        let found = images.differences().unwrap();
        assert_eq!(found.tables[0].rows, Err("comparing it takes too much work".to_owned()));

        let cancelled = Arc::new(Cancelled(AtomicBool::new(false)));
        let monitor: Arc<dyn Monitor> = Arc::<Cancelled>::clone(&cancelled);
        let images =
            Images::open(&pair.dir.path().join("old"), &pair.dir.path().join("new"), &monitor).unwrap();
        cancelled.0.store(true, Ordering::Relaxed);
        assert_eq!(images.differences().unwrap().tables[0].rows, Err("interrupted".to_owned()));
    }

    #[test]
    fn what_is_no_database_is_said() {
        let pair = Pair::new("CREATE TABLE t(a)", "", "");
        std::fs::write(pair.dir.path().join("new"), vec![b'x'; 8192]).unwrap();
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let open = |name: &str| {
            Images::open(&pair.dir.path().join("old"), &pair.dir.path().join(name), &monitor)
                .and_then(|images| images.differences())
        };
        assert!(open("new").is_err());
        assert!(open("nothing").is_err());
        assert!(open("old").is_ok());
    }
}
