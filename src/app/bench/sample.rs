//! What is measured with: a sample of the state dir, or bytes that are made up.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::timer::{Rate, Timer};
use super::{AppError, BenchRequest, Location};
use crate::fs::{self, Dir, FileKind};
use crate::gather::{Found, Gather, Profile, RuleOptions, Rules, TreeWalk, WalkOptions};
use crate::model::RepoPath;

/// Bytes that zstd gets at once, as backups give them.
pub(super) const FRAME: usize = 1 << 20;
/// Most bytes of a sample.
const SAMPLE: u64 = 64 << 20;
/// Bytes of one sample that is made up.
const MADE_UP: usize = 16 * FRAME;
/// Most bytes that a large file gives at one place.
const PIECE: u64 = 1 << 20;
/// A walk ends after this time, wherever it is.
const WALK_LIMIT: Duration = Duration::from_secs(2);
/// Reading leaves parts out so that it takes little more.
const READ_LIMIT: Duration = Duration::from_secs(1);
/// Entries after which the walk looks at the clock.
const LOOK: u64 = 256;

/// The state dir, as a backup without further options would take it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Where it is.
    pub root: PathBuf,
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be looked at.
    pub unreadable: u64,
    /// False when the walk ended before the tree did: there is more than this.
    pub complete: bool,
    /// Entries of all kinds, and how long it took to walk them.
    pub walk: Rate,
    /// Bytes of the sample, and how long it took to read them; `None` when there was nothing to read.
    pub reading: Option<Rate>,
}

/// What the stages are measured with.
pub(super) struct Sample {
    pub(super) bytes: Vec<u8>,
    /// It is the state dir's.
    pub(super) real: bool,
}

impl Sample {
    /// Frames in an order that is neither that of the tree nor another one each time: a slow stage gets
    /// to few of them, and they should be from everywhere.
    pub(super) fn frames(&self) -> Vec<&[u8]> {
        let mut frames: Vec<_> = self.bytes.chunks(FRAME).enumerate().collect();
        frames.sort_by_cached_key(|(number, _)| crate::crypto::sha256(&number.to_le_bytes()));
        frames.into_iter().map(|(_, frame)| frame).collect()
    }
}

/// Takes a sample of the state dir, if there is one.
pub(super) fn take(timer: &Timer, request: &BenchRequest) -> Result<(Option<Tree>, Sample), AppError> {
    let Some(Walked { mut tree, root, files }) = walk(timer, request)? else {
        return Ok((None, made_up()));
    };
    let (bytes, reading) = read(timer, &root, &pieces(&files, SAMPLE))?;
    tree.reading = (reading.amount > 0).then_some(reading);
    // Of less than a frame nothing could be measured that holds for more.
    let sample = if bytes.len() < FRAME { made_up() } else { Sample { bytes, real: true } };
    Ok((Some(tree), sample))
}

struct Walked {
    tree: Tree,
    root: Arc<Dir>,
    files: Vec<(RepoPath, u64)>,
}

/// Walks the state dir; `None` when there is none.
fn walk(timer: &Timer, request: &BenchRequest) -> Result<Option<Walked>, AppError> {
    let Some(path) = &request.state_dir else { return Ok(None) };
    let (root, mut walk) = match open(path, request) {
        Ok(opened) => opened,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            let message = format!("cannot read {}: {e}; the sample is made up", path.display());
            timer.monitor.warning(None, &message);
            return Ok(None);
        }
    };
    let mut files = Vec::new();
    let mut tree = Tree {
        root: path.clone(),
        files: 0,
        bytes: 0,
        unreadable: 0,
        complete: true,
        walk: Rate::default(),
        reading: None,
    };
    let begun = timer.now();
    while let Some(found) = walk.next() {
        match found {
            Found::Entry(entry) => {
                tree.walk.amount += 1;
                if entry.stat.kind == FileKind::File {
                    tree.bytes = tree.bytes.saturating_add(entry.stat.size);
                    files.push((entry.path, entry.stat.size));
                }
            }
            Found::Error { .. } => tree.unreadable += 1,
            Found::Skipped { .. } => {}
        }
        if tree.walk.amount.is_multiple_of(LOOK) {
            timer.go_on()?;
            if timer.since(begun) > WALK_LIMIT {
                tree.complete = false;
                break;
            }
        }
    }
    tree.walk.time = timer.since(begun);
    tree.files = files.len() as u64;
    Ok(Some(Walked { tree, root, files }))
}

/// The walk that a backup without further options would make.
fn open(path: &Path, request: &BenchRequest) -> io::Result<(Arc<Dir>, TreeWalk)> {
    let path = path.canonicalize()?;
    let root = Arc::new(Dir::open(&path)?);
    let profile = Profile::detect_named(&root, &path);
    let options = RuleOptions { ignore_files: true, profile, ..RuleOptions::default() };
    let rules = Rules::compile(&options).map_err(io::Error::other)?;
    let mut own = vec![request.cache_dir.clone()];
    if let Some(Location::Local(repository)) = &request.location {
        own.push(repository.clone());
    }
    let forbidden = own.iter().filter_map(|path| fs::stat_path(path).ok()).map(|s| s.identity()).collect();
    let walk = TreeWalk::of(Arc::clone(&root), WalkOptions { rules, forbidden, ..WalkOptions::default() })?;
    Ok((root, walk))
}

/// A part of a file.
#[derive(Debug, PartialEq, Eq)]
struct Piece<'a> {
    path: &'a RepoPath,
    offset: u64,
    len: usize,
}

/// Parts of files, at most `limit` bytes together, spread evenly over all bytes that there are.
fn pieces(files: &[(RepoPath, u64)], limit: u64) -> Vec<Piece<'_>> {
    let total: u128 = files.iter().map(|(_, size)| u128::from(*size)).sum();
    let share = |seen: u128| if total <= limit.into() { seen } else { seen * u128::from(limit) / total };
    let (mut seen, mut taken) = (0u128, 0u128);
    let mut pieces = Vec::new();
    for (path, size) in files.iter().filter(|(_, size)| *size > 0) {
        seen += u128::from(*size);
        let len = PIECE.min(*size);
        let due = (share(seen) - taken) / u128::from(len);
        let count = u64::try_from(due).unwrap_or(u64::MAX).min(size / len);
        for number in 0..count {
            #[allow(clippy::cast_possible_truncation)] // at most PIECE
            pieces.push(Piece { path, offset: size / count * number, len: len as usize });
        }
        taken += u128::from(count * len);
    }
    pieces
}

/// Reads the pieces, fewer of them when that takes long. What cannot be read is left out.
fn read(timer: &Timer, root: &Dir, pieces: &[Piece<'_>]) -> Result<(Vec<u8>, Rate), AppError> {
    let mut bytes = Vec::with_capacity(pieces.iter().map(|piece| piece.len).sum());
    let mut folder = None;
    let begun = timer.now();
    for (number, piece) in pieces.iter().enumerate() {
        timer.go_on()?;
        // Behind schedule: what is left out is from all over the tree, not the rest of it.
        let schedule = READ_LIMIT.mul_f64(0.1 + number as f64 / pieces.len() as f64);
        if timer.since(begun) > schedule {
            continue;
        }
        let start = bytes.len();
        bytes.resize(start + piece.len, 0);
        let read = open_in(root, &mut folder, piece.path)
            .and_then(|file| file.read_exact_at(&mut bytes[start..], piece.offset));
        if read.is_err() {
            bytes.truncate(start);
        }
    }
    let rate = Rate { amount: bytes.len() as u64, time: timer.since(begun) };
    Ok((bytes, rate))
}

/// Opens a file. Its directory stays open for the next one, as it would be in a backup.
fn open_in(root: &Dir, folder: &mut Option<(RepoPath, Dir)>, path: &RepoPath) -> io::Result<File> {
    let parent = path.parent().unwrap_or_default();
    let dir = match folder.take() {
        Some((at, dir)) if at == parent => dir,
        _ => root.open_path(&parent)?,
    };
    let (_, dir) = folder.insert((parent, dir));
    dir.open_regular(path.name()).map(|(file, _)| file)
}

/// Bytes that are three quarters like text and one quarter like media, the same each time.
fn made_up() -> Sample {
    let mut bytes = Vec::with_capacity(MADE_UP);
    while bytes.len() < MADE_UP {
        let frame = noise(bytes.len(), FRAME);
        if bytes.len() / FRAME % 4 == 3 { bytes.extend(frame) } else { bytes.extend(text(&frame)) }
    }
    Sample { bytes, real: false }
}

/// What does not compress.
pub(super) fn noise(seed: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// As many bytes of words, chosen by noise.
fn text(noise: &[u8]) -> Vec<u8> {
    const WORDS: [&str; 32] = [
        "cicada",
        "skin",
        "bark",
        "summer",
        "night",
        "grows",
        "left",
        "behind",
        "shed",
        "branch",
        "song",
        "when",
        "the",
        "of",
        "a",
        "and",
        "\"id\":",
        "\"text\":",
        "{",
        "}",
        "\n",
        ", ",
        "17",
        "2026",
        "true",
        "false",
        "https://",
        "user",
        "agent",
        "memory",
        "error",
        "done",
    ];
    let mut out = Vec::with_capacity(noise.len() + 16);
    for byte in noise {
        if out.len() >= noise.len() {
            break;
        }
        out.extend_from_slice(WORDS[usize::from(*byte) % WORDS.len()].as_bytes());
        // Numbers and names that occur once.
        if *byte > 200 { out.extend_from_slice(format!("{byte:x}").as_bytes()) } else { out.push(b' ') }
    }
    out.truncate(noise.len());
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::timer::tests::Ticking;
    use super::*;
    use crate::report::Silent;

    fn files(sizes: &[u64]) -> Vec<(RepoPath, u64)> {
        let path = |n: usize| RepoPath::new(format!("f{n:06}").into_bytes()).unwrap();
        sizes.iter().enumerate().map(|(n, size)| (path(n), *size)).collect()
    }

    fn sum(pieces: &[Piece<'_>]) -> u64 {
        pieces.iter().map(|piece| piece.len as u64).sum()
    }

    #[test]
    fn all_is_taken_where_there_is_little() {
        let files = files(&[0, 10, 5_000, PIECE, 3]);
        let pieces = pieces(&files, SAMPLE);
        assert_eq!(sum(&pieces), 5_013 + PIECE);
        assert_eq!(pieces.len(), 4);
    }

    #[test]
    fn a_sample_is_spread_over_all_bytes() {
        let small = files(&vec![4_096; 1_600]);
        let every_sixteenth = pieces(&small, 100 * 4_096);
        assert_eq!(every_sixteenth.len(), 100);
        let at = |n: usize| small.iter().position(|(path, _)| path == every_sixteenth[n].path).unwrap();
        assert!((1..100).all(|n| at(n) - at(n - 1) == 16));

        let large = files(&[10, 1 << 30, 20, 3 << 30]);
        let spread = pieces(&large, SAMPLE);
        assert!(sum(&spread) <= SAMPLE && sum(&spread) > SAMPLE - 3 * PIECE);
        let of_the_last: Vec<_> = spread.iter().filter(|p| *p.path == large[3].0).collect();
        assert!((46..=48).contains(&of_the_last.len()));
        assert!(of_the_last.windows(2).all(|w| w[1].offset - w[0].offset > 60 << 20));
        assert!(spread.iter().all(|p| p.offset + p.len as u64 <= 3 << 30));
    }

    #[test]
    fn nothing_and_the_incredibly_large_have_a_sample_too() {
        assert_eq!(pieces(&[], SAMPLE), []);
        let vast = files(&[u64::MAX, u64::MAX]);
        assert!(sum(&pieces(&vast, SAMPLE)) <= SAMPLE);
    }

    #[test]
    fn reading_leaves_out_what_is_gone_and_what_takes_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let root = Dir::open(dir.path()).unwrap();
        let timer = Timer { clock: Arc::new(Ticking::default()), monitor: Arc::new(Silent) };
        let files = files(&[4; 1_000]);
        for (path, _) in &files[1..] {
            std::fs::write(dir.path().join(path.to_os_path()), b"abcd").unwrap();
        }
        let (bytes, rate) = read(&timer, &root, &pieces(&files[..3], SAMPLE)).unwrap();
        assert_eq!((bytes.as_slice(), rate.amount), (&b"abcdabcd"[..], 8));
        // At 10 ms for each, a second is enough for about 100.
        let (bytes, _) = read(&timer, &root, &pieces(&files, SAMPLE)).unwrap();
        assert!(bytes.len() < 4 * 200, "{}", bytes.len());
    }

    #[test]
    fn what_is_made_up_is_whole_and_always_the_same() {
        let (one, two) = (made_up(), made_up());
        assert_eq!((one.bytes.len(), one.real), (MADE_UP, false));
        assert_eq!(one.bytes, two.bytes);
        assert!(one.frames().iter().all(|frame| frame.len() == FRAME));
    }
}
