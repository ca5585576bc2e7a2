//! The power of a local repository's machine is cut after any step: of what was not brought to stable storage
//! all is gone, or nothing, or a part that the seed chooses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Numbers;
use super::judge;
use super::world::{Op, World};
use crate::crypto::seeded;
use crate::fs::TempFile;
use crate::fs::witness::{self, Event};
use crate::model::ObjectId;
use crate::remote::{Local, Remote};

/// How much of what was not synced survives.
#[derive(Debug, Clone, Copy)]
enum Luck {
    Nothing,
    Some(u64),
    Everything,
}

/// What a name stands for: a directory, or one of the files.
#[derive(Debug, Clone, Copy)]
enum Node {
    Folder,
    File(usize),
}

/// A file system as the disk has it, and as it is in memory.
#[derive(Default, Clone)]
struct Disk {
    names: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names whose directory was not synced since; `None` takes a name away.
    pending: Vec<(PathBuf, Option<Node>)>,
    /// The synced content of each file.
    files: Vec<Option<Arc<[u8]>>>,
}

impl Disk {
    fn set(&mut self, path: PathBuf, node: Option<Node>) {
        match node {
            Some(node) => self.names.insert(path.clone(), node),
            None => self.names.remove(&path),
        };
        self.pending.push((path, node));
    }

    fn settle(names: &mut BTreeMap<PathBuf, Node>, (path, node): (PathBuf, Option<Node>)) {
        match node {
            Some(node) => names.insert(path, node),
            None => names.remove(&path),
        };
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::File(path) => {
                self.files.push(None);
                self.set(path.clone(), Some(Node::File(self.files.len() - 1)));
            }
            Event::Folder(path) => self.set(path.clone(), Some(Node::Folder)),
            Event::Synced(path, content) => {
                if let Some(Node::File(number)) = self.names.get(path) {
                    self.files[*number] = Some(Arc::clone(content));
                }
            }
            Event::SyncedFolder(folder) => {
                let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|(path, _)| path.parent() == Some(folder.as_path()));
                self.pending = later;
                now.into_iter().for_each(|change| Self::settle(&mut self.durable, change));
            }
            Event::Renamed(from, to) => {
                let node = self.names.get(from).copied();
                self.set(to.clone(), node);
                self.set(from.clone(), None);
            }
            Event::Removed(path) => self.set(path.clone(), None),
        }
    }

    /// What is there after the power was cut: each file that still has a name, and its content.
    fn cut(&self, root: &Path, luck: Luck) -> BTreeMap<PathBuf, Arc<[u8]>> {
        let mut names = self.durable.clone();
        let mut numbers = Numbers::new(if let Luck::Some(seed) = luck { seed } else { 0 });
        for change in &self.pending {
            let survives = match luck {
                Luck::Nothing => false,
                Luck::Some(_) => numbers.chance(50),
                Luck::Everything => true,
            };
            if survives {
                Self::settle(&mut names, change.clone());
            }
        }
        let reachable = |path: &Path| {
            let mut above = path.ancestors().skip(1).take_while(|folder| *folder != root);
            above.all(|folder| matches!(names.get(folder), Some(Node::Folder)))
        };
        let content = |number: usize| self.files[number].clone().unwrap_or_else(|| Arc::from([]));
        let files = names.iter().filter_map(|(path, node)| match node {
            Node::File(number) if reachable(path) => Some((path.clone(), content(*number))),
            _ => None,
        });
        files.collect()
    }
}

/// After one of so many cuts it is tried what prunes do.
const PRUNED: usize = 7;

/// A machine with a local repository, under watch.
pub(super) struct Watched {
    pub(super) world: World,
    root: PathBuf,
    remote: Arc<dyn Remote>,
    /// For each operation: how many events there were at its end, and the snapshots that count from then on.
    reports: Vec<(usize, Vec<ObjectId>)>,
}

impl Watched {
    pub(super) fn new(seed: u64) -> Self {
        seeded::begin(seed);
        let world = World::new(1);
        let root = world.path("").canonicalize().unwrap();
        let remote: Arc<dyn Remote> = Arc::new(Local::new(root.join("repo")));
        witness::watch(&root);
        Self { world, root, remote, reports: Vec::new() }
    }

    /// Runs an operation over the local repository.
    pub(super) fn run(&mut self, op: Op) -> Option<ObjectId> {
        self.world.begin(0);
        let made = self.world.job(0, op).run(&self.remote).unwrap();
        self.world.promise(op, &Ok(made));
        if op == Op::Policy {
            let listed = ["snapshots", "safety"].map(|folder| self.remote.list(folder).unwrap()).concat();
            let there = |id: &ObjectId| listed.iter().any(|one| one.name.ends_with(&id.to_string()));
            self.world.promised.retain(there);
        }
        self.reports.push((witness::seen(&self.root).len(), self.world.promised.clone()));
        made
    }

    /// Cuts the power after every event, and looks at what is left; returns how many times.
    pub(super) fn cut_everywhere(mut self, from: usize) -> usize {
        let events = witness::seen(&self.root);
        witness::unwatch(&self.root);
        let began = from.checked_sub(1).map_or(0, |last| self.reports[last].0);
        let mut disk = Disk::default();
        let mut cuts = 0;
        for (number, event) in events.iter().enumerate() {
            disk.take(event);
            if number < began {
                continue;
            }
            for luck in [Luck::Nothing, Luck::Some(number as u64), Luck::Everything] {
                let left = disk.cut(&self.root, luck);
                if let Err(e) = self.is_whole(number + 1, &left) {
                    let past = events[number.saturating_sub(12)..=number].iter().map(|event| match event {
                        Event::Synced(path, content) => format!("synced {path:?}, {} bytes", content.len()),
                        other => format!("{other:?}"),
                    });
                    let past: Vec<_> = past.collect();
                    panic!("cut after event {number}, {luck:?}: {e}\n{}", past.join("\n"));
                }
                cuts += 1;
            }
        }
        seeded::end();
        cuts
    }

    /// Loads what is left into the world, and looks at it.
    fn is_whole(&mut self, events: usize, left: &BTreeMap<PathBuf, Arc<[u8]>>) -> Result<(), String> {
        let cache = self.world.machines[0].cache.clone();
        drop(fs::remove_dir_all(&cache));
        let mut objects = BTreeMap::new();
        for (path, content) in left {
            if let Ok(name) = path.strip_prefix(self.root.join("repo")) {
                if !path.file_name().unwrap().to_string_lossy().starts_with(TempFile::PREFIX) {
                    objects.insert(name.to_str().unwrap().to_string(), Arc::clone(content));
                }
            } else if path.starts_with(&cache) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
        }
        self.world.provider.replace(objects);
        let done = self.reports.iter().take_while(|(at, _)| *at <= events).count();
        self.world.promised = match done.checked_sub(1) {
            Some(last) => self.reports[last].1.clone(),
            None => Vec::new(),
        };
        if let Some((_, coming)) = self.reports.get(done) {
            // One that is being removed may be gone before that is reported.
            self.world.promised.retain(|id| coming.contains(id));
        }
        if done == 0 && !self.world.provider.all().iter().any(|name| name == "exuvia.json") {
            return Ok(());
        }
        let first = judge::newcomer(&self.world, "first").is_ok();
        self.world.passphrase = if first { "first" } else { "second" };
        judge::nothing_is_lost(&self.world, 0, None)?;
        judge::check(&self.world, None).map_err(|e| format!("check: {e}"))?;
        self.world.attempt(0, Op::Backup, None).result.map_err(|e| format!("the next backup: {e}"))?;
        judge::nothing_is_lost(&self.world, 0, None).map_err(|e| format!("after the next backup: {e}"))?;
        if events.is_multiple_of(PRUNED) {
            self.world.tidy(0).map_err(|e| format!("prunes: {e}"))?;
            judge::nothing_is_lost(&self.world, 0, None).map_err(|e| format!("after prunes: {e}"))?;
        }
        Ok(())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        witness::unwatch(&self.root);
    }
}
