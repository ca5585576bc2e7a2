//! The limit: the least a backup of this kind can do, and nothing else. Walk, read, BLAKE3, zstd in
//! 1 MiB frames, ChaCha20-Poly1305, packs of 16 MiB; and back. No deduplication, no index, no
//! databases, no errors worth the name, no order of writes: a yardstick beside which the benchmark
//! harness measures the program, never a way to keep data.
//!
//! ```text
//! limit backup SRC REPO [LEVEL]     a first backup; REPO must not exist
//! limit restore REPO DST            everything back
//! limit walk SRC [THREADS]          a stat walk
//! ```

#![allow(clippy::print_stdout, reason = "a program of its own")]

use std::collections::VecDeque;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

const FRAME: usize = 1 << 20;
const PACK: usize = 16 << 20;
const KEY: [u8; 32] = [7; 32];

type Failure = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

#[derive(bincode::Encode, bincode::Decode)]
struct Item {
    path: Vec<u8>,
    kind: u8,
    mode: u32,
    mtime: (i64, u32),
    size: u64,
    target: Vec<u8>,
}

#[derive(Clone, Copy, bincode::Encode, bincode::Decode)]
struct Part {
    item: usize,
    offset: u64,
    len: usize,
}

#[derive(bincode::Encode, bincode::Decode)]
struct Frame {
    pack: usize,
    at: usize,
    stored: usize,
    raw: usize,
    parts: Vec<Part>,
    ids: Vec<[u8; 32]>,
}

fn main() -> Result<()> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let arg = |i: usize| args.get(i).map(PathBuf::from).ok_or("an argument is missing");
    let number = |i: usize| args.get(i).and_then(|a| a.to_str()).and_then(|a| a.parse().ok());
    match args.first().and_then(|a| a.to_str()) {
        Some("backup") => backup(&arg(1)?, &arg(2)?, number(3).unwrap_or(3)),
        Some("restore") => restore(&arg(1)?, &arg(2)?),
        Some("walk") => {
            let threads = number(2).map_or_else(cores, |n| usize::try_from(n).unwrap_or(1));
            println!("{} entries", walk(&arg(1)?, threads)?.len());
            Ok(())
        }
        _ => Err("limit backup SRC REPO [LEVEL] | restore REPO DST | walk SRC [THREADS]".into()),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Runs `work` on every core and gathers what it returns.
fn on_all_cores<T: Send>(threads: usize, work: impl Fn() -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        handles.into_iter().map(|h| h.join().map_err(|_| Failure::from("a thread failed"))?).collect()
    })
}

/// Threads take whole directories from a common stack.
fn walk(root: &Path, threads: usize) -> Result<Vec<Item>> {
    struct Todo {
        dirs: Vec<PathBuf>,
        busy: usize,
    }
    let todo = Mutex::new(Todo { dirs: vec![PathBuf::new()], busy: 0 });
    let more = Condvar::new();
    let found = on_all_cores(threads, || {
        let mut items = Vec::new();
        loop {
            let dir = {
                let mut t = todo.lock().unwrap_or_else(PoisonError::into_inner);
                loop {
                    if let Some(dir) = t.dirs.pop() {
                        t.busy += 1;
                        break dir;
                    }
                    if t.busy == 0 {
                        return Ok(items);
                    }
                    t = more.wait(t).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let below = read_dir(root, &dir, &mut items);
            let mut t = todo.lock().unwrap_or_else(PoisonError::into_inner);
            t.busy -= 1;
            t.dirs.extend(below?);
            more.notify_all();
        }
    })?;
    let mut items: Vec<Item> = found.into_iter().flatten().collect();
    items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(items)
}

fn read_dir(root: &Path, dir: &Path, items: &mut Vec<Item>) -> Result<Vec<PathBuf>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(root.join(dir), flags, Mode::empty())?;
    let mut below = Vec::new();
    for entry in Dir::read_from(&handle)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let path = dir.join(OsStr::from_bytes(name.to_bytes()));
        let (kind, target) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => (0, Vec::new()),
            FileType::Directory => (1, Vec::new()),
            FileType::Symlink => (2, rustix::fs::readlinkat(&handle, name, Vec::new())?.into_bytes()),
            _ => continue,
        };
        items.push(Item {
            path: path.as_os_str().as_bytes().to_vec(),
            kind,
            mode: stat.st_mode & 0o7777,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec)?),
            size: u64::try_from(stat.st_size)?,
            target,
        });
        if kind == 1 {
            below.push(path);
        }
    }
    Ok(below)
}

/// Small files together, large ones in pieces: about a MiB each.
fn cut(items: &[Item]) -> VecDeque<Vec<Part>> {
    let (mut groups, mut group, mut filled) = (VecDeque::new(), Vec::new(), 0);
    for (i, item) in items.iter().enumerate().filter(|(_, item)| item.kind == 0) {
        let mut offset = 0;
        while offset < item.size {
            let len = usize::try_from(item.size - offset).unwrap_or(FRAME).min(FRAME);
            if filled + len > FRAME {
                groups.push_back(std::mem::take(&mut group));
                filled = 0;
            }
            group.push(Part { item: i, offset, len });
            filled += len;
            offset += len as u64;
        }
    }
    groups.push_back(group);
    groups
}

struct Open {
    number: usize,
    bytes: Vec<u8>,
}

fn backup(src: &Path, repo: &Path, level: i32) -> Result<()> {
    fs::create_dir_all(repo)?;
    let items = walk(src, cores())?;
    let groups: Vec<_> = cut(&items).into();
    let next = AtomicUsize::new(0);
    let pack_number = AtomicUsize::new(0);
    let frames = on_all_cores(cores(), || {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        let cipher = ChaCha20Poly1305::new(&Key::from(KEY));
        let (mut raw, mut frames) = (Vec::with_capacity(FRAME), Vec::new());
        let number = || pack_number.fetch_add(1, Ordering::Relaxed);
        let mut pack = Open { number: number(), bytes: Vec::with_capacity(PACK + FRAME) };
        while let Some(parts) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            raw.clear();
            let mut ids = Vec::with_capacity(parts.len());
            for part in parts {
                let start = raw.len();
                raw.resize(start + part.len, 0);
                let file = File::open(src.join(OsStr::from_bytes(&items[part.item].path)))?;
                file.read_exact_at(&mut raw[start..], part.offset)?;
                ids.push(*blake3::keyed_hash(&KEY, &raw[start..]).as_bytes());
            }
            let at = pack.bytes.len();
            pack.bytes.resize(at + zstd::zstd_safe::compress_bound(raw.len()), 0);
            let n = compressor.compress_to_buffer(&raw, &mut pack.bytes[at..])?;
            pack.bytes.truncate(at + n);
            let nonce = nonce(frames.len(), pack.number)?;
            let sealed = cipher.encrypt_inout_detached(&nonce, b"", (&mut pack.bytes[at..]).into());
            let tag = sealed.map_err(|_| "sealing failed")?;
            pack.bytes.extend_from_slice(&tag);
            frames.push((
                frames.len(),
                Frame { pack: pack.number, at, stored: n, raw: raw.len(), parts: parts.clone(), ids },
            ));
            if pack.bytes.len() >= PACK {
                fs::write(repo.join(pack.number.to_string()), &pack.bytes)?;
                pack.bytes.clear();
                pack.number = number();
            }
        }
        fs::write(repo.join(pack.number.to_string()), &pack.bytes)?;
        Ok(frames)
    })?;
    let frames: Vec<_> = frames.into_iter().flatten().collect();
    let index = bincode::encode_to_vec(&(items, frames), bincode::config::standard())?;
    fs::write(repo.join("index"), zstd::bulk::compress(&index, 1)?)?;
    rustix::fs::syncfs(File::open(repo)?)?;
    Ok(())
}

fn nonce(frame: usize, pack: usize) -> Result<Nonce> {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&(frame as u64).to_le_bytes());
    nonce[8..].copy_from_slice(&u32::try_from(pack)?.to_le_bytes());
    Ok(nonce.into())
}

fn restore(repo: &Path, dst: &Path) -> Result<()> {
    let index = zstd::stream::decode_all(File::open(repo.join("index"))?)?;
    let decoded = bincode::decode_from_slice(&index, bincode::config::standard())?;
    let (items, frames): (Vec<Item>, Vec<(usize, Frame)>) = decoded.0;
    fs::create_dir_all(dst)?;
    let at = |item: &Item| dst.join(OsStr::from_bytes(&item.path));
    for item in items.iter().filter(|item| item.kind == 1) {
        fs::create_dir(at(item))?;
    }
    let next = AtomicUsize::new(0);
    on_all_cores(cores(), || {
        let mut decompressor = zstd::bulk::Decompressor::new()?;
        let cipher = ChaCha20Poly1305::new(&Key::from(KEY));
        let (mut sealed, mut raw) = (Vec::new(), Vec::new());
        while let Some((number, frame)) = frames.get(next.fetch_add(1, Ordering::Relaxed)) {
            sealed.resize(frame.stored + 16, 0);
            let pack = File::open(repo.join(frame.pack.to_string()))?;
            pack.read_exact_at(&mut sealed, frame.at as u64)?;
            let (bytes, tag) = sealed.split_at_mut(frame.stored);
            let tag = <[u8; 16]>::try_from(&*tag)?.into();
            let nonce = nonce(*number, frame.pack)?;
            let opened = cipher.decrypt_inout_detached(&nonce, b"", (&mut *bytes).into(), &tag);
            opened.map_err(|_| "a frame is damaged")?;
            raw.resize(frame.raw, 0);
            decompressor.decompress_to_buffer(bytes, &mut raw)?;
            let mut rest = &raw[..];
            for (part, id) in frame.parts.iter().zip(&frame.ids) {
                let (bytes, after) = rest.split_at(part.len);
                rest = after;
                if blake3::keyed_hash(&KEY, bytes) != *id {
                    return Err("a blob is damaged".into());
                }
                let item = &items[part.item];
                let whole = part.len as u64 == item.size;
                let file = File::options().write(true).create(true).truncate(false).open(at(item))?;
                file.write_all_at(bytes, part.offset)?;
                if whole {
                    finish(&file, item)?;
                }
            }
        }
        Ok(())
    })?;
    for item in &items {
        match item.kind {
            0 if item.size == 0 => finish(&File::create(at(item))?, item)?,
            0 if item.size > FRAME as u64 => finish(&File::options().write(true).open(at(item))?, item)?,
            2 => std::os::unix::fs::symlink(OsStr::from_bytes(&item.target), at(item))?,
            _ => {}
        }
    }
    for item in items.iter().rev().filter(|item| item.kind == 1) {
        finish(&File::open(at(item))?, item)?;
    }
    rustix::fs::syncfs(File::open(dst)?)?;
    Ok(())
}

fn finish(file: &File, item: &Item) -> Result<()> {
    file.set_permissions(Permissions::from_mode(item.mode))?;
    let since = Duration::new(u64::try_from(item.mtime.0)?, item.mtime.1);
    file.set_modified(SystemTime::UNIX_EPOCH + since)?;
    Ok(())
}
