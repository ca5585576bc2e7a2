//! The rules of the house, checked on the source itself: which module may use which, and what may be
//! written only in one place. Each rule states its reason, so that whoever meets it can judge it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

/// What one top-level module may import.
struct Row {
    module: &'static str,
    layer: u8,
    /// Modules of lower layers.
    below: &'static [&'static str],
    /// Modules of the same layer: exceptions, each of which must not close a circle.
    beside: &'static [&'static str],
    why: &'static str,
}

const FRONT: u8 = 4;
const USE_CASES: u8 = 3;
const STORAGE: u8 = 2;
const TOOLS: u8 = 1;
const GROUND: u8 = 0;

/// Every top-level module of the library has a row; one without is refused.
const LAYERS: &[Row] = &[
    Row {
        module: "cli",
        layer: FRONT,
        below: &["app", "config", "report", "clock", "model"],
        beside: &["daemon"],
        why: "a front door turns arguments into one request of app and renders its outcome; what it \
              reached for itself, the other front doors would lack",
    },
    Row {
        module: "daemon",
        layer: FRONT,
        below: &["app", "fs", "config", "clock", "model"],
        beside: &[],
        why: "it decides when, and runs the program itself for what; how its words are shown is the business of cli, \
              which starts it",
    },
    Row {
        module: "simulation",
        layer: FRONT,
        below: &["ops", "repo", "full", "format", "remote", "fs", "crypto", "report", "clock", "model"],
        beside: &[],
        why: "tests only: it drives operations as app does, over a provider and clocks of its own",
    },
    Row {
        module: "app",
        layer: USE_CASES,
        below: &[
            "repo", "gather", "remote", "full", "format", "fs", "rclone", "chunk", "crypto", "config",
            "report", "clock", "model",
        ],
        beside: &["ops"],
        why: "app opens what an operation needs and runs it; it serves every front door, so it knows none",
    },
    Row {
        module: "ops",
        layer: USE_CASES,
        below: &[
            "repo", "gather", "remote", "full", "format", "fs", "rclone", "chunk", "crypto", "config",
            "report", "clock", "model",
        ],
        beside: &[],
        why: "an operation is given opened parts and never asks how they were configured or will be shown",
    },
    Row {
        module: "repo",
        layer: STORAGE,
        below: &["fs", "chunk", "crypto", "report", "clock", "model"],
        beside: &["format", "remote"],
        why: "repo owns the order of writes of objects; where entries come from (gather) is not its business",
    },
    Row {
        module: "gather",
        layer: STORAGE,
        below: &["fs", "chunk", "crypto", "report", "clock", "model"],
        beside: &[],
        why: "a source of entries works without any repository, so that each can be tested alone",
    },
    Row {
        module: "remote",
        layer: STORAGE,
        below: &["fs", "rclone", "report", "clock", "model"],
        beside: &[],
        why: "a remote moves sealed bytes under names; it must be unable to open them",
    },
    Row {
        module: "format",
        layer: STORAGE,
        below: &["crypto", "model"],
        beside: &[],
        why: "bytes to model and back, with no I/O and no clock, so that vectors and fuzzing reach all of it",
    },
    Row {
        module: "full",
        layer: STORAGE,
        below: &["crypto", "model"],
        beside: &["format"],
        why: "a tar stream in, an archive out and back: where archives lie and what goes into them is not its business",
    },
    Row {
        module: "fs",
        layer: TOOLS,
        below: &["model"],
        beside: &[],
        why: "fs knows files and folders of this machine, and nothing of what is kept in them",
    },
    Row {
        module: "rclone",
        layer: TOOLS,
        below: &["clock", "model"],
        beside: &[],
        why: "how the program rclone is run and understood; what is stored through it is not its business",
    },
    Row {
        module: "chunk",
        layer: TOOLS,
        below: &["model"],
        beside: &[],
        why: "cut points are a pure function of key and content; anything else read here would break dedup",
    },
    Row {
        module: "crypto",
        layer: TOOLS,
        below: &["model"],
        beside: &[],
        why: "few lines that can be reviewed by themselves; keys come in as arguments",
    },
    Row {
        module: "config",
        layer: TOOLS,
        below: &["model"],
        beside: &["fs"],
        why: "files and environment become plain values here, with no behaviour; fs puts new files in place",
    },
    Row {
        module: "report",
        layer: TOOLS,
        below: &["model"],
        beside: &[],
        why: "events are said in the vocabulary of model, so that every module can report",
    },
    Row {
        module: "clock",
        layer: GROUND,
        below: &[],
        beside: &["model"],
        why: "everything that needs time is handed a clock; the clock needs only the type of a time",
    },
    Row {
        module: "model",
        layer: GROUND,
        below: &[],
        beside: &[],
        why: "the vocabulary of all others, plain data without I/O",
    },
];

const MAIN_MAY_USE: &[&str] = &["cli"];
const MAIN_WHY: &str = "main parses, runs, exits; whatever else it did, no test could call";
const MAX_LINES: usize = 800;

/// Where a file stands, as far as the bans care.
type Where = fn(&str) -> bool;

struct Ban {
    rule: &'static str,
    /// Refused paths: consecutive segments anywhere in a path, one of the first, then one of the second.
    /// With no second list a single segment is enough.
    first: &'static [&'static str],
    then: &'static [&'static str],
    /// The name is refused only as a macro call.
    macros: bool,
    allowed: Where,
    exempt_in_tests: bool,
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        rule: "print",
        first: &["print", "println", "eprint", "eprintln", "dbg"],
        then: &[],
        macros: true,
        allowed: in_cli,
        exempt_in_tests: false,
        why: "output belongs to cli/: results to stdout, all else to stderr; the library reports to its monitor",
    },
    Ban {
        rule: "print",
        first: &["io"],
        then: &["stdout", "stderr"],
        macros: false,
        allowed: |file| in_cli(file) || is_test_file(file),
        exempt_in_tests: false,
        why: "output belongs to cli/; an operation that yields bytes is given a writer",
    },
    Ban {
        rule: "time",
        first: &["SystemTime", "Instant", "Timestamp", "Zoned"],
        then: &["now"],
        macros: false,
        allowed: |file| file == "src/clock.rs",
        exempt_in_tests: true,
        why: "only clock.rs reads the clocks, so that grace periods and schedules are tested without waiting",
    },
    Ban {
        rule: "environment",
        first: &["env"],
        then: &["var", "var_os", "vars", "vars_os", "set_var", "remove_var", "home_dir", "temp_dir"],
        macros: false,
        // fs/system.rs asks who runs the program; USER is part of the answer, not a setting.
        allowed: |file| file.starts_with("src/config/") || in_cli(file) || file == "src/fs/system.rs",
        exempt_in_tests: true,
        why: "settings arrive as values from config/ or cli/; a variable read deeper is one nobody can find",
    },
    Ban {
        rule: "clap",
        first: &["clap", "clap_complete", "clap_mangen"],
        then: &[],
        macros: false,
        allowed: in_cli,
        exempt_in_tests: false,
        why: "a renamed flag must not change the library",
    },
    Ban {
        rule: "exit",
        first: &["process"],
        then: &["exit"],
        macros: false,
        allowed: |file| file == "src/main.rs",
        exempt_in_tests: false,
        why: "exit skips every destructor: temporary files stay, keys are not wiped; return the class instead",
    },
    Ban {
        rule: "unsafe",
        first: &["unsafe"],
        then: &[],
        macros: false,
        allowed: |file| file.starts_with("src/gather/sqlite/vfs"),
        exempt_in_tests: false,
        why: "only SQLite's file interface has no safe wrapper; all other system calls have one in rustix or std",
    },
];

/// A module of tests in a file of its own; its parent declares it under `cfg(test)`.
fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

fn in_cli(file: &str) -> bool {
    file.starts_with("src/cli/")
}

#[test]
fn the_source_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    read_sources(root, "src", &mut files);
    assert!(files.iter().any(|(name, _)| name == "src/main.rs"), "no source found under {}", root.display());
    let violations = check(&files);
    let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(list.is_empty(), "{} violation(s) of the rules of the house:\n{}", list.len(), list.join("\n"));
}

#[test]
fn the_table_of_layers_holds_together() {
    let row =
        |name: &str| LAYERS.iter().find(|r| r.module == name).unwrap_or_else(|| panic!("no row {name}"));
    let names: BTreeSet<_> = LAYERS.iter().map(|r| r.module).collect();
    assert_eq!(names.len(), LAYERS.len(), "a module has two rows");
    for r in LAYERS {
        for other in r.below {
            assert!(row(other).layer < r.layer, "{other} is not below {}", r.module);
        }
        for other in r.beside {
            assert_eq!(row(other).layer, r.layer, "{other} is not beside {}", r.module);
            assert!(row(other).beside.is_empty(), "{} beside {other} begins a chain", r.module);
        }
    }
}

fn read_sources(root: &Path, dir: &str, files: &mut Vec<(String, String)>) {
    let mut names: Vec<_> = fs::read_dir(root.join(dir))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let path = format!("{dir}/{name}");
        if root.join(&path).is_dir() {
            read_sources(root, &path, files);
        } else if name.ends_with(".rs") {
            files.push((path.clone(), fs::read_to_string(root.join(&path)).unwrap()));
        }
    }
}

struct Violation {
    file: String,
    line: usize,
    rule: &'static str,
    reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.reason)
    }
}

fn check(files: &[(String, String)]) -> Vec<Violation> {
    let scans: Vec<(&str, Scan)> = files.iter().map(|(name, text)| (name.as_str(), scan(text))).collect();
    let test_files: Vec<String> = scans
        .iter()
        .flat_map(|(file, scan)| scan.test_mods.iter().map(|name| format!("{}/{name}", children_of(file))))
        .collect();
    let mut found = Vec::new();
    for ((file, scan), (_, text)) in scans.iter().zip(files) {
        let is_test_file = test_files
            .iter()
            .any(|t| file.strip_prefix(t.as_str()).is_some_and(|r| r == ".rs" || r.starts_with('/')));
        let lines = text.lines().count();
        if lines > MAX_LINES {
            found.push(Violation {
                file: (*file).to_owned(),
                line: MAX_LINES + 1,
                rule: "length",
                reason: format!("{lines} lines, more than {MAX_LINES}: a file that long does several things"),
            });
        }
        for path in &scan.paths {
            let broken = layer_broken(file, path)
                .into_iter()
                .chain(BANS.iter().filter_map(|ban| ban_broken(ban, file, path, is_test_file)));
            found.extend(broken.map(|(rule, reason)| Violation {
                file: (*file).to_owned(),
                line: path.line,
                rule,
                reason,
            }));
        }
    }
    found
}

/// The top-level module a file belongs to.
fn module_of(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// How many modules deep the text of a file starts: 0 for the roots of the crates.
fn depth_of(file: &str) -> usize {
    match file {
        "src/lib.rs" | "src/main.rs" => 0,
        _ => file.matches('/').count() - usize::from(file.ends_with("/mod.rs")),
    }
}

/// Where the files of modules declared in `file` lie.
fn children_of(file: &str) -> &str {
    ["/mod.rs", "/lib.rs", "/main.rs", ".rs"].iter().find_map(|end| file.strip_suffix(end)).unwrap_or(file)
}

fn layer_broken(file: &str, path: &PathUse) -> Option<(&'static str, String)> {
    let target = path.below_crate_root(depth_of(file))?;
    let from = module_of(file);
    if target == "*" || target == "self" {
        return Some((
            "glob",
            "imports from the whole crate hide which layer is used; name the module".into(),
        ));
    }
    if from == "lib" {
        return None;
    }
    if from == "main" {
        return (!MAIN_MAY_USE.contains(&target))
            .then(|| ("layers", format!("main.rs may not use {target}: {MAIN_WHY}")));
    }
    let Some(row) = LAYERS.iter().find(|r| r.module == from) else {
        return Some(("layers", format!("module {from} has no row in LAYERS: decide what it may use")));
    };
    if target == from || row.below.contains(&target) || row.beside.contains(&target) {
        return None;
    }
    Some(match LAYERS.iter().any(|r| r.module == target) {
        true => ("layers", format!("{from} may not use {target}: {}", row.why)),
        false => ("layers", format!("crate::{target} is no module of LAYERS; name the module it comes from")),
    })
}

fn ban_broken(ban: &Ban, file: &str, path: &PathUse, is_test_file: bool) -> Option<(&'static str, String)> {
    if (ban.allowed)(file) || (ban.exempt_in_tests && (path.in_test || is_test_file)) {
        return None;
    }
    let names = &path.segments;
    let is_first = |name: &String| ban.first.contains(&name.as_str());
    let hit = match (ban.macros, ban.then.is_empty()) {
        (true, _) => path.is_macro && names.last().is_some_and(is_first),
        (false, true) => names.iter().any(is_first),
        (false, false) => {
            names.windows(2).any(|pair| is_first(&pair[0]) && ban.then.contains(&pair[1].as_str()))
        }
    };
    hit.then(|| (ban.rule, format!("`{}`: {}", names.join("::"), ban.why)))
}

// The scanner. It needs no grammar: comments and literals are blanked, the rest is cut into tokens,
// and every `a::b::{c, d}` is spelled out, wherever it stands.

/// One path as written, in a `use` or in an expression.
#[derive(Debug)]
struct PathUse {
    segments: Vec<String>,
    line: usize,
    /// Inside a module marked `#[cfg(test)]`.
    in_test: bool,
    /// How many modules deep inside its file.
    inner: usize,
    /// Followed by `!`.
    is_macro: bool,
}

impl PathUse {
    /// The first name below the root of the crate, when this path goes by way of that root.
    fn below_crate_root(&self, file_depth: usize) -> Option<&str> {
        let names: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        match names.as_slice() {
            ["crate" | "exuvia", target, ..] => Some(target),
            names => {
                let names = &names[usize::from(names.first() == Some(&"self"))..];
                let ups = names.iter().take_while(|n| **n == "super").count();
                (ups > 0 && ups >= file_depth + self.inner).then(|| names.get(ups).copied()).flatten()
            }
        }
    }
}

#[derive(Debug)]
struct Scan {
    paths: Vec<PathUse>,
    /// Names of modules marked `#[cfg(test)]` that stand in files of their own.
    test_mods: Vec<String>,
}

struct Token<'a> {
    text: &'a str,
    line: usize,
}

fn scan(source: &str) -> Scan {
    let blanked = blank(source);
    let tokens = tokenize(&blanked);
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    let mut found = Scan { paths: Vec::new(), test_mods: Vec::new() };
    // For each open inner module: the brace depth outside it, and whether it holds tests.
    let mut inner: Vec<(usize, bool)> = Vec::new();
    let (mut braces, mut test_attribute) = (0usize, false);
    let mut i = 0;
    while i < tokens.len() {
        match text(i) {
            "#" => {
                let end = attribute_end(&tokens, i);
                test_attribute |= is_cfg_test(&tokens[i..end]);
            }
            "mod" if is_name(text(i + 1)) => {
                match text(i + 2) {
                    "{" => inner.push((braces, test_attribute)),
                    _ if test_attribute => found.test_mods.push(text(i + 1).to_owned()),
                    _ => {}
                }
                test_attribute = false;
            }
            // An attribute ends with the item it stands before, module or not.
            ";" => test_attribute = false,
            "{" => (braces, test_attribute) = (braces + 1, false),
            "}" => {
                (braces, test_attribute) = (braces.saturating_sub(1), false);
                inner.pop_if(|(outside, _)| *outside == braces);
            }
            _ => {}
        }
        if !is_name(text(i)) {
            i += 1;
            continue;
        }
        let mut spelled = Vec::new();
        let end = spell_out(&tokens, i, &[], &mut spelled);
        let is_macro = text(end) == "!";
        found.paths.extend(spelled.into_iter().map(|(segments, line)| PathUse {
            segments,
            line,
            in_test: inner.iter().any(|(_, test)| *test),
            inner: inner.len(),
            is_macro,
        }));
        i = end;
    }
    found
}

/// Adds every path that the tokens from `at` stand for; returns the index after them.
fn spell_out(
    tokens: &[Token<'_>],
    at: usize,
    prefix: &[String],
    out: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    let mut path = prefix.to_vec();
    path.push(text(at).trim_start_matches("r#").to_owned());
    let mut i = at + 1;
    while text(i) == "::" {
        match text(i + 1) {
            "{" => {
                i += 2;
                while i < tokens.len() && text(i) != "}" {
                    // `as name` and commas stand between the members.
                    i = match text(i) {
                        "as" => i + 2,
                        name if is_name(name) || name == "*" => spell_out(tokens, i, &path, out),
                        _ => i + 1,
                    };
                }
                return i + 1;
            }
            name if is_name(name) || name == "*" => {
                path.push(name.trim_start_matches("r#").to_owned());
                i += 2;
            }
            _ => break,
        }
    }
    out.push((path, tokens[i - 1].line));
    i
}

fn attribute_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "[" => depth += 1,
            "]" if depth <= 1 => return i,
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is_cfg_test(attribute: &[Token<'_>]) -> bool {
    let names: Vec<&str> = attribute.iter().map(|t| t.text).filter(|t| is_name(t)).collect();
    names.first() == Some(&"cfg")
        && names.contains(&"test")
        && !names.contains(&"not")
        && !names.contains(&"any")
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
}

fn tokenize(text: &str) -> Vec<Token<'_>> {
    let is_word = |c: u8| c == b'_' || c.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    let (mut tokens, mut line, mut i) = (Vec::new(), 1, 0);
    while i < bytes.len() {
        let rest = &bytes[i..];
        let len = if is_word(rest[0]) {
            let prefix = if rest.starts_with(b"r#") { 2 } else { 0 };
            prefix + rest[prefix..].iter().take_while(|&&c| is_word(c)).count()
        } else if rest.starts_with(b"::") {
            2
        } else {
            1
        };
        if rest[0] == b'\n' {
            line += 1;
        }
        if !rest[0].is_ascii_whitespace() {
            tokens.push(Token { text: &text[i..i + len], line });
        }
        i += len;
    }
    tokens
}

/// The source with comments and literals turned to blanks; line breaks stay where they are.
fn blank(source: &str) -> String {
    let bytes = source.as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        let after_word = i > 0 && (bytes[i - 1] == b'_' || bytes[i - 1].is_ascii_alphanumeric());
        let skip = literal_or_comment(&bytes[i..], after_word).min(bytes.len() - i);
        out.extend(bytes[i..i + skip].iter().map(|&b| if b == b'\n' { b } else { b' ' }));
        i += skip;
        if skip == 0 {
            out.push(if bytes[i].is_ascii() { bytes[i] } else { b' ' });
            i += 1;
        }
    }
    String::from_utf8(out).unwrap()
}

/// Length of the comment or literal that begins here; 0 when none does.
fn literal_or_comment(rest: &[u8], after_word: bool) -> usize {
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, b'"'),
        // A lifetime has no closing quote after one character.
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', first, ..] => {
            let width = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        [b'b' | b'c', b'r', ..] if !after_word => raw_string(&rest[2..]).map_or(0, |len| len + 2),
        [b'r', ..] if !after_word => raw_string(&rest[1..]).map_or(0, |len| len + 1),
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0usize, 0);
    while i < rest.len() {
        match &rest[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != quote {
        i += if rest[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|&&b| b == b'#').count();
    (rest.get(hashes) == Some(&b'"')).then_some(())?;
    let end: Vec<u8> = [b'"'].into_iter().chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &rest[hashes + 1..];
    let close = body.windows(end.len()).position(|w| w == end).unwrap_or(body.len());
    Some(hashes + 1 + close + end.len())
}

mod scanner {
    use super::*;

    /// The rules that one file breaks, as `rule@line`.
    fn broken(file: &str, text: &str) -> Vec<String> {
        check(&[(file.to_owned(), text.to_owned())])
            .iter()
            .map(|v| format!("{}@{}", v.rule, v.line))
            .collect()
    }

    #[test]
    fn layers_are_seen_in_every_spelling() {
        for text in [
            "use crate::repo::Repository;",
            "use crate::{model::Entry, repo};",
            "use crate::{model::{Entry, Slice}, repo::{index::Index, Repository as R}};",
            "pub(crate) use crate::repo as r;",
            "fn f() { crate::repo::open(); }",
            "fn f() { let x: Vec<crate::repo::Pack> = vec![]; }",
            "fn f() { crate :: repo\n:: open(); }",
            "macro_rules! m { () => { $crate::repo::open() } }",
            "use super::repo;",
            "use self::super::repo;",
            "mod a { mod b { use super::super::super::repo; } }",
            "use exuvia::repo;",
            "use crate::r#repo::open;",
            "#[cfg(test)] mod tests { use crate::repo; }",
        ] {
            let found = broken("src/fs/mod.rs", text);
            assert!(!found.is_empty() && found.iter().all(|f| f.starts_with("layers@")), "{text}: {found:?}");
        }
    }

    #[test]
    fn allowed_imports_pass() {
        for (file, text) in [
            ("src/fs/mod.rs", "use crate::model::Entry; use crate::fs::open; pub(crate) struct A;"),
            ("src/fs/dir.rs", "use super::open; mod tests { use super::*; use super::super::open; }"),
            ("src/clock.rs", "use crate::model::Timestamp; mod tests { use super::*; }"),
            ("src/repo/pack/write.rs", "use super::super::index; use crate::remote::Remote;"),
            ("src/app/mod.rs", "use crate::ops::backup;"),
            ("src/main.rs", "fn main() { std::process::exit(exuvia::cli::run()); }"),
            ("src/lib.rs", "pub mod repo; pub use crate::repo::Repository;"),
        ] {
            assert_eq!(broken(file, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn rows_are_asked_for_and_roots_are_guarded() {
        assert_eq!(broken("src/mcp/mod.rs", "\nuse crate::app;"), ["layers@2"]);
        assert_eq!(broken("src/main.rs", "use exuvia::app;"), ["layers@1"]);
        assert_eq!(broken("src/ops/a.rs", "use crate::app::Request;"), ["layers@1"]);
        assert_eq!(broken("src/repo/a.rs", "use crate::gather::Gather;"), ["layers@1"]);
        assert_eq!(broken("src/ops/a.rs", "use crate::Repository;"), ["layers@1"]);
        assert_eq!(broken("src/ops/a.rs", "use crate::*;"), ["glob@1"]);
        assert_eq!(broken("src/ops/a.rs", "use crate::{*};"), ["glob@1"]);
        assert_eq!(broken("src/clock.rs", "use super::*;"), ["glob@1"]);
    }

    #[test]
    fn bans_are_seen() {
        for (rule, text) in [
            ("print", "fn f() { println!(\"{}\", 1); }"),
            ("print", "fn f() { std::eprint!(); }"),
            ("print", "use std::io::{self, stdout, Write};"),
            ("time", "fn f() { let t = std::time::Instant::now(); }"),
            ("time", "use std::time::SystemTime; fn f() { SystemTime::now(); }"),
            ("time", "fn f() { jiff::Timestamp::now(); }"),
            ("time", "#[cfg(not(test))] mod a { fn f() { Instant::now(); } }"),
            ("time", "#[cfg(test)] use a::b; mod c { fn f() { Instant::now(); } }"),
            ("time", "#[cfg(test)] fn a() {} mod c { fn f() { Instant::now(); } }"),
            ("time", "#[cfg(test)] mod tests { } fn f() { Instant::now(); }"),
            ("environment", "fn f() { std::env::var(\"HOME\"); }"),
            ("environment", "use std::env::{self, var_os as v};"),
            ("clap", "#[derive(clap::Parser)] struct A;"),
            ("clap", "use {clap::Parser};"),
            ("exit", "use std::process::{Command, exit};"),
            ("exit", "fn f() { std::process::exit(1) }"),
            ("unsafe", "fn f() { unsafe { g() } }"),
            ("unsafe", "#[cfg(test)] mod tests { unsafe fn f() {} }"),
            ("print", "#[cfg(test)] mod tests { fn f() { dbg!(1); } }"),
            ("unsafe", "fn f<'a>(x: &'a u8) { let c = '\"'; unsafe {} let d = '\"'; }"),
            ("unsafe", "fn f() { let s = r#\"a\"b\"#; unsafe {} }"),
            ("unsafe", "fn f() { let s = \"\\\"\"; unsafe {} }"),
            ("unsafe", "fn f() { let c = b'\\''; unsafe {} }"),
            ("unsafe", "/* a /* b */ c */ unsafe fn f() {}"),
        ] {
            assert_eq!(broken("src/ops/a.rs", text), [format!("{rule}@1")], "{text}");
        }
        let long = "\n".repeat(MAX_LINES + 1);
        assert_eq!(broken("src/ops/a.rs", &long), [format!("length@{}", MAX_LINES + 1)]);
        assert_eq!(broken("src/ops/a.rs", &long[1..]), [""; 0]);
    }

    #[test]
    fn bans_end_where_the_thing_belongs() {
        for (file, text) in [
            ("src/cli/a.rs", "use clap::Parser; fn f() { println!(); std::env::var(\"A\"); }"),
            ("src/clock.rs", "fn f() { SystemTime::now(); Instant::now(); }"),
            ("src/config/mod.rs", "fn f() { std::env::var(\"A\"); }"),
            ("src/gather/sqlite/vfs.rs", "unsafe fn f() {}"),
            ("src/ops/a.rs", "fn f(clock: &dyn Clock) { clock.now(); Clock::now(clock); }"),
            (
                "src/ops/a.rs",
                "#[cfg(test)]\n#[allow(x)]\nmod tests { fn f() { Instant::now(); env::var(\"A\"); } }",
            ),
            ("src/ops/a.rs", "#[cfg(all(test, unix))] pub(crate) mod tests { fn f() { Instant::now(); } }"),
        ] {
            assert_eq!(broken(file, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        for text in [
            "// unsafe println!()\n//! crate::repo\n/// crate::app\nfn f() {}",
            "/* unsafe /* println!() */ crate::app */",
            "const A: &str = \"unsafe \\\" crate::app::x\";",
            "const A: &[u8] = br##\"unsafe \"# println!()\"##;",
            "const A: &str = \"line\nunsafe\";",
            "const A: char = '\"'; const B: &str = \"unsafe\";",
            "const A: char = 'é'; const B: &str = \"unsafe\";",
        ] {
            assert_eq!(broken("src/fs/mod.rs", text), [""; 0], "{text}");
        }
        // Blanking keeps the lines, so that reports point at the right one.
        assert_eq!(broken("src/fs/mod.rs", "/*\n\n*/ const A: &str = \"\n\n\";\nunsafe {}"), ["unsafe@6"]);
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_test_code() {
        let now = "fn f() { Instant::now(); }";
        let check = |parent: &str, declares: &str, child: &str| {
            check(&[(parent.into(), declares.into()), (child.into(), now.into())]).len()
        };
        assert_eq!(check("src/ops/mod.rs", "#[cfg(test)] mod tests;", "src/ops/tests.rs"), 0);
        assert_eq!(check("src/ops/a.rs", "#[cfg(test)] mod tests;", "src/ops/a/tests/b.rs"), 0);
        assert_eq!(check("src/ops/mod.rs", "mod tests;", "src/ops/tests.rs"), 1);
        assert_eq!(check("src/ops/a.rs", "#[cfg(test)] mod tests;", "src/ops/tests.rs"), 1);
    }
}
