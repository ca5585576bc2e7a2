//! One attempt at a snapshot: sets the threads to work and publishes what they made.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;

use super::job::Job;
use super::listings::{self, Listings, Verdict};
use super::previous::{Previous, Source as PreviousSource};
use super::reader::{self, Context, Pace};
use super::sequence::{Observer, Sequencer};
use super::walk::{Describer, Walk, changed_databases};
use super::{Error, Outcome, ProfileChoice, Request};
use crate::chunk::Chunker;
use crate::clock::Clock;
use crate::fs::{self, Dir};
use crate::gather::{IncludeSet, Profile, RuleOptions, Rules, TreeWalk, WalkOptions};
use crate::model::{BlobId, ObjectId, RepoPath, Snapshot, SnapshotKind, Stats, Timestamp};
use crate::ops::{alarm, auto_restore, cache_keys, rollback};
use crate::remote::RequestCounts;
use crate::repo::{
    Baseline, BlobReader, Catalog, CatalogEntry, ManifestReader, ObjectInfo, Packer, Published, RepoError,
    Repository, Seen, SharedIndex,
};
use crate::report::{Monitor, Phase};

/// How many of the newest records are looked at for one of the same directory, when the cache
/// knows none.
const LOOK_BACK: usize = 64;
/// Batches for each thread that the walk may be ahead by: while one reader is busy with a large file, whose
/// turn it is in the manifest, the others go on with what comes after.
const BATCHES_AHEAD: usize = 32;

/// Publishing a record takes no longer than this, or there was no power, no network, or much patience.
const HELD_UP: Duration = Duration::from_secs(15 * 60);

/// The directory and what of it belongs to the snapshot.
pub(in crate::ops) struct Source {
    root: PathBuf,
    dir: Arc<Dir>,
    dev: u64,
    options: WalkOptions,
    profile: Profile,
    selection: Vec<String>,
    paths: Vec<Vec<u8>>,
    key: String,
}

impl Source {
    /// The directory without links.
    pub(in crate::ops) fn root(&self) -> &Path {
        &self.root
    }

    /// The same, open.
    pub(in crate::ops) fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    /// What of it is walked.
    pub(in crate::ops) fn options(&self) -> &WalkOptions {
        &self.options
    }

    /// The same in words.
    pub(in crate::ops) fn words(&self) -> &[String] {
        &self.selection
    }

    pub(in crate::ops) fn prepare(repository: &Repository, request: &Request) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Root { path, source }
        };
        // Without links, so that SQLite and the walk see the same files.
        let root = request.root.canonicalize().map_err(failed(&request.root))?;
        let dir = Arc::new(Dir::open(&root).map_err(failed(&root))?);
        let dev = dir.stat().map_err(failed(&root))?.dev;
        let wrong = |e: &dyn std::fmt::Display| Error::Selection(e.to_string());
        let selection = &request.selection;
        let profile = match selection.profile {
            ProfileChoice::None => Profile::None,
            ProfileChoice::OpenClaw => Profile::OpenClaw,
            ProfileChoice::Auto => Profile::detect_named(&dir, &root),
        };
        let rules = Rules::compile(&RuleOptions {
            excludes: selection.exclude.clone(),
            exclude_files: selection.exclude_files.clone(),
            // What an archive holds is wanted, whatever its files say.
            ignore_files: request.origin.is_none(),
            profile,
        })
        .map_err(|e| wrong(&e))?;
        let include = match selection.include.as_slice() {
            [] => Vec::new(),
            sets => IncludeSet::parse_list(&sets.join(",")).map_err(|e| wrong(&e))?,
        };
        let only =
            request.paths.iter().map(|p| relative(&request.root, &root, p)).collect::<Result<_, _>>()?;
        // Before the first use of the cache it is not there; what is not there cannot be recognised.
        let _ = fs::create_private_dir_all(repository.cache().directory());
        let own = repository.own_directories();
        // What an interrupted rollback and an auto-restore left is not the application's.
        let left = [root.join(rollback::FOLDER), root.join(auto_restore::FOLDER)];
        let forbidden = own.iter().chain(&left).filter_map(|p| fs::stat_path(p).ok()).map(|s| s.identity());
        let options = WalkOptions {
            only,
            include,
            rules,
            one_file_system: selection.one_file_system,
            exclude_caches: selection.exclude_caches,
            forbidden: forbidden.collect(),
        };
        let bytes = |p: &Path| p.as_os_str().as_bytes().to_vec();
        let chosen: Vec<_> = request.paths.iter().map(|p| bytes(p)).collect();
        let key = cache_keys::tree(&root, &chosen);
        let paths = if chosen.is_empty() { vec![bytes(&root)] } else { chosen };
        let words = selection.words(profile);
        Ok(Self { root, dir, dev, options, profile, selection: words, paths, key })
    }
}

fn relative(given: &Path, root: &Path, path: &Path) -> Result<RepoPath, Error> {
    let inside = path.strip_prefix(given).or_else(|_| path.strip_prefix(root));
    let inside = inside
        .map_err(|_| Error::Selection(format!("{} is not below {}", path.display(), root.display())))?;
    RepoPath::new(inside.as_os_str().as_bytes().to_vec())
        .map_err(|e| Error::Selection(format!("{}: {e}", path.display())))
}

/// How an attempt ended.
pub(super) enum Done {
    Finished(Box<Outcome>),
    /// Packs that were counted on may be deleted.
    Condemned,
}

/// What was counted on while the tree was read.
struct Relied<'a> {
    index: &'a SharedIndex,
    gc: BTreeSet<String>,
    remembered: Option<Vec<ObjectInfo>>,
    /// Root segments of manifests that need nothing else.
    sound: BTreeSet<BlobId>,
}

pub(super) struct Attempt<'a> {
    pub(super) repository: &'a Repository,
    pub(super) request: &'a Request,
    pub(super) monitor: &'a Arc<dyn Monitor>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) source: &'a Source,
    pub(super) catalog: &'a Catalog,
    pub(super) started: (Timestamp, Duration),
}

impl Attempt<'_> {
    pub(super) fn run(&self, known: Listings, observer: Option<&mut Observer<'_>>) -> Result<Done, Error> {
        let (source, request) = (self.source, self.request);
        let Listings { gc, condemned, index: remembered, mut sound } = known;
        let index = SharedIndex::without(self.repository, condemned, remembered.clone());
        let baseline = self.repository.cache().baseline(&source.key).filter(|_| request.origin.is_none());
        let baseline = match baseline {
            Some(baseline) if self.is_there(&baseline)? => Some(baseline),
            _ => None,
        };
        let parent = match &baseline {
            Some(baseline) => Some((baseline.id, baseline.snapshot.clone())),
            // What lies in a folder of its own only for a while has no past, and no future, there.
            None if request.origin.is_some() => None,
            None => self.find_parent()?.map(|(entry, snapshot)| (entry.id, snapshot)),
        };
        if !index.condemned().is_empty() && !index.get()?.remembered {
            sound.clear();
        }
        // It is about to be the manifest before the last.
        let is_sound = parent.as_ref().is_some_and(|(_, parent)| sound.remove(&parent.manifest.root));
        let context = Context {
            repository: self.repository.clone(),
            index: Arc::clone(&index),
            is_sound,
            chunker: Chunker::new(self.repository.sealer().keys.gear_table()),
            clock: Arc::clone(self.clock),
            monitor: Arc::clone(self.monitor),
            root: source.root.clone(),
            verify: request.verify,
            packer: Packer::new(self.repository, request.packer, request.dry_run, Arc::clone(&index)),
            pace: Pace::default(),
        };
        let mut known = baseline.as_ref().map(|b| b.known.clone()).unwrap_or_default();
        if !index.condemned().is_empty() && !is_sound {
            let loaded = index.get()?;
            known.retain(|id| loaded.may_keep(id).unwrap_or(false));
        }
        let mut sequencer = Sequencer::new(&context, known, source.dev);
        sequencer.observer = observer.map(|observer| observer as _);
        if let Some((_, snapshot)) = &parent {
            sequencer.previous_databases =
                snapshot.databases.iter().map(|d| (d.path.clone(), d.clone())).collect();
        }
        // What follows a safety snapshot is another state: the next backup compares with the one before.
        let keeps = !request.dry_run && request.kind == SnapshotKind::Regular && request.origin.is_none();
        if keeps {
            sequencer.baseline = self.repository.cache().write_baseline(&source.key).ok();
        }
        self.monitor.phase(Phase::Backup, parent.as_ref().map(|(_, s)| s.stats.bytes));
        self.gather(&context, &mut sequencer, baseline, parent.as_ref().map(|(_, s)| s))?;
        let manifest = sequencer.finish_manifest()?;
        let unchanged = parent.as_ref().is_some_and(|(_, s)| s.manifest == manifest);
        if unchanged && parent.as_ref().is_some_and(|(id, _)| self.cached(id)) {
            // The cache holds this very manifest.
            sequencer.baseline = None;
        }
        sound.insert(manifest.root);
        let relied = Relied { index: &index, gc, remembered, sound };
        self.publish(sequencer, relied, parent, manifest, unchanged)
    }

    /// What an undo went back to is a safety snapshot.
    fn is_there(&self, baseline: &Baseline) -> Result<bool, Error> {
        Ok(match baseline.snapshot.kind {
            SnapshotKind::Regular => self.catalog.contains(&baseline.id),
            kind => Catalog::load(self.repository, kind)?.contains(&baseline.id),
        })
    }

    fn cached(&self, id: &ObjectId) -> bool {
        self.repository.cache().baseline(&self.source.key).is_some_and(|b| b.id == *id)
    }

    /// The newest snapshot of the same directory on this machine.
    /// A writer key can read none: without what the cache remembers everything is new to it, and found in the
    /// index.
    fn find_parent(&self) -> Result<Option<(CatalogEntry, Snapshot)>, Error> {
        if self.repository.writer_key().is_some() {
            return Ok(None);
        }
        let host = fs::hostname();
        let root = self.source.root.as_os_str().as_bytes();
        for entry in self.catalog.entries().iter().rev().take(LOOK_BACK) {
            match self.repository.snapshot(entry) {
                Ok(s) if s.host == host && s.root == root && s.paths == self.source.paths => {
                    return Ok(Some((entry.clone(), s)));
                }
                Ok(_) => {}
                Err(e) => {
                    // A damaged record must not stop new backups; `check` names it too.
                    self.monitor.warning(None, &format!("{e}; looking for an older snapshot"));
                }
            }
        }
        Ok(None)
    }

    /// Reads the tree: databases first, then the walk.
    fn gather(
        &self,
        context: &Context,
        sequencer: &mut Sequencer<'_>,
        baseline: Option<Baseline>,
        parent: Option<&Snapshot>,
    ) -> Result<(), Error> {
        let source = self.source;
        let loaded = match (&baseline, parent) {
            (None, Some(_)) => Some(context.index.get()?),
            _ => None,
        };
        let blobs = loaded.as_ref().map(|l| BlobReader::new(self.repository, &l.index));
        let manifest = |blobs| match (blobs, parent) {
            (Some(blobs), Some(parent)) => {
                PreviousSource::Repository(Box::new(ManifestReader::new(blobs, parent.manifest)))
            }
            _ => PreviousSource::None,
        };
        let mut databases = self.databases(context, sequencer);
        if !databases.is_empty() {
            let previous = match self.repository.cache().baseline(&source.key) {
                Some(again) if baseline.is_some() => PreviousSource::Cache(Box::new(again)),
                _ => manifest(blobs.as_ref()),
            };
            let mut previous = Previous::new(previous);
            for job in &mut databases {
                let entry = previous.take(&job.path);
                job.previous = entry.and_then(|e| e.content().cloned()).map(Arc::new);
            }
        }
        let threads = self.request.packer.threads;
        let (jobs, work) = bounded::<Job>(2 * threads);
        let (batches, walked) = bounded(BATCHES_AHEAD * threads);
        // Handed over directly, and only to who waits for it.
        let (offer, offered) = bounded(0);
        std::thread::scope(|scope| {
            // Should this thread panic, the walk must not wait for it.
            let walked = walked;
            for _ in 0..threads {
                let (work, offers) = (work.clone(), (offer.clone(), offered.clone()));
                scope.spawn(move || reader::run(context, &work, offers));
            }
            drop((work, offer, offered));
            self.databases_first(scope, &jobs, databases, sequencer)?;
            let mut tree = TreeWalk::of(Arc::clone(&source.dir), source.options.clone())
                .map_err(|e| Error::Root { path: source.root.clone(), source: e })?;
            let previous = match baseline {
                Some(baseline) => PreviousSource::Cache(Box::new(baseline)),
                None => manifest(blobs.as_ref()),
            };
            let ended = Arc::new(AtomicBool::new(false));
            let walk = Walk {
                context,
                ended: Arc::clone(&ended),
                previous: Previous::new(previous),
                describer: Describer::new(),
                rescan: self.request.rescan,
                captured: Arc::new(sequencer.early_paths()),
                root_dev: source.dev,
                batches,
                jobs,
                links: std::collections::HashSet::new(),
                items: Vec::new(),
                files: Vec::new(),
                bytes: 0,
                asks_ahead: false,
            };
            scope.spawn(move || walk.run(&mut tree));
            let result = sequencer.batches(&walked);
            ended.store(true, Ordering::Relaxed);
            if result.is_err() {
                // Readers stop in the middle of what they read.
                context.packer.fail(RepoError::Worker);
            }
            // The walk may be waiting for room in the queue.
            walked.iter().for_each(drop);
            result
        })
    }

    fn databases(&self, context: &Context, sequencer: &Sequencer<'_>) -> Vec<super::job::FileJob> {
        let source = self.source;
        if !source.options.only.is_empty() || !source.options.include.is_empty() {
            // A part of the tree: the walk finds what belongs to it.
            return Vec::new();
        }
        let known = sequencer.previous_databases.keys().cloned();
        let hints = source.profile.databases(&source.dir);
        // What is left out now, though an earlier snapshot has it, is not even opened.
        let wanted = known.chain(hints).filter(|path| !source.options.rules.leave_out(&source.dir, path));
        changed_databases(context, &source.dir, wanted, self.request.rescan)
    }

    /// Captures databases before anything else is read: other files are written after, and refer
    /// to, what is in them.
    fn databases_first<'scope>(
        &self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        jobs: &crossbeam_channel::Sender<Job>,
        databases: Vec<super::job::FileJob>,
        sequencer: &mut Sequencer<'_>,
    ) -> Result<(), Error> {
        let (mut paths, mut work) = (Vec::new(), Vec::new());
        for job in databases {
            let (out, read) = bounded(1);
            paths.push((job.path.clone(), read));
            work.push(Job { files: vec![job], out });
        }
        let jobs = jobs.clone();
        scope.spawn(move || {
            for job in work {
                if jobs.send(job).is_err() {
                    break;
                }
            }
        });
        sequencer.early(paths)
    }

    /// Time that has passed, sleep of the machine included where it can be known.
    fn elapsed(&self) -> Duration {
        self.clock.boot().map_or_else(|| self.clock.monotonic(), |boot| boot.elapsed)
    }

    fn known_snapshots(&self) -> BTreeSet<String> {
        self.catalog.entries().iter().map(|entry| entry.name.clone()).collect()
    }

    /// Lets the next run find what is published now, should this one end here: it lists the index anew.
    fn note_published(&self, relied: &Relied<'_>, published: &Published) {
        if published.index.is_empty() {
            return;
        }
        let cache = self.repository.cache();
        let (snapshots, gc) = (self.known_snapshots(), relied.gc.clone());
        let seen = Seen { snapshots, gc, ..Seen::default() };
        // Where it cannot be noted, the notes of single packs stay.
        if cache.note_seen(&seen).is_ok() {
            published.listed.iter().for_each(|pack| cache.forget_pending(pack));
        }
    }

    fn publish(
        &self,
        mut sequencer: Sequencer<'_>,
        relied: Relied<'_>,
        parent: Option<(ObjectId, Snapshot)>,
        manifest: crate::model::ManifestRef,
        unchanged: bool,
    ) -> Result<Done, Error> {
        self.monitor.phase(Phase::Publish, None);
        let cache = self.repository.cache();
        let published = sequencer.context.packer.publish()?;
        self.note_published(&relied, &published);
        let stats = Stats {
            bytes_added_raw: published.raw,
            bytes_added_stored: published.stored,
            duration_ms: u64::try_from(self.clock.monotonic().saturating_sub(self.started.1).as_millis())
                .unwrap_or(u64::MAX),
            ..sequencer.stats
        };
        let mut databases = std::mem::take(&mut sequencer.databases);
        databases.sort_by(|a, b| a.path.cmp(&b.path));
        let mut snapshot = Snapshot {
            time: self.started.0,
            kind: self.request.kind,
            reason: self.request.reason,
            host: fs::hostname(),
            user: fs::user_name(),
            program: concat!("exuvia ", env!("CARGO_PKG_VERSION")).to_string(),
            writer: crate::model::WriterId([0; 16]),
            sequence: 0,
            parent: parent.as_ref().map(|(id, _)| *id),
            root: self.source.root.as_os_str().as_bytes().to_vec(),
            paths: self.source.paths.clone(),
            selection: self.source.selection.clone(),
            tags: sorted(&self.request.tags),
            manifest,
            complete: sequencer.errors.is_empty(),
            errors: sequencer.errors.iter().take(crate::format::limits::SNAPSHOT_ERRORS).cloned().collect(),
            error_count: sequencer.errors.len() as u64,
            databases,
            stats,
            losses: Vec::new(),
        };
        if let Some(origin) = &self.request.origin {
            origin.describe(&mut snapshot);
        }
        // Of a state that is about to be overwritten nobody asks that it be whole.
        let alarm = self.request.alarm.filter(|_| self.request.kind == SnapshotKind::Regular);
        if let (Some((_, parent)), Some(threshold)) = (&parent, alarm) {
            snapshot.losses = alarm::losses(parent, &snapshot, threshold);
        }
        let mut outcome = Outcome {
            id: None,
            snapshot: snapshot.clone(),
            unchanged,
            errors: std::mem::take(&mut sequencer.errors),
            excluded: sequencer.excluded(),
            requests: RequestCounts::default(),
            vanished: Vec::new(),
            tables: Vec::new(),
        };
        if self.request.dry_run || (self.request.skip_if_unchanged && unchanged && outcome.errors.is_empty())
        {
            return Ok(Done::Finished(Box::new(outcome)));
        }
        let Relied { index, gc, remembered, sound } = relied;
        let Verdict::Sound(now) = listings::judge(self.repository, &gc, index)? else {
            return Ok(Done::Condemned);
        };
        let judged = self.elapsed();
        snapshot.writer = cache.writer()?;
        snapshot.sequence = cache.sequence().saturating_add(1);
        // One that names what its parent names is no loss: the parent's record was read back.
        let entry = self.repository.publish_snapshot(&snapshot, !unchanged)?;
        outcome.id = Some(entry.id);
        // A prune that removes packs lists the snapshots after it has read what was condemned. So either it sees
        // this snapshot, or we see now what it read: no clock has to be right for that. One that names what its
        // parent names need not look, unless it was held up until the parent may be forgotten.
        if (!unchanged || self.elapsed().saturating_sub(judged) > HELD_UP)
            && matches!(listings::judge(self.repository, &now, index)?, Verdict::Condemned)
        {
            cache.note_sequence(snapshot.sequence)?;
            return Ok(Done::Condemned);
        }
        let mut snapshots = self.known_snapshots();
        if self.request.kind == SnapshotKind::Regular {
            snapshots.insert(entry.name.clone());
        } else {
            outcome.tables = std::mem::take(&mut sequencer.tables);
        }
        let mut seen = listings::seen_after(snapshots, gc, now, index, remembered, &published.index, sound);
        if let Some(objects) = seen.index.take() {
            let merged = self.repository.merge_index(objects.clone());
            seen.index = merged
                .inspect_err(|e| self.monitor.note(None, &format!("the index was not merged: {e}")))
                .ok();
        }
        let mark = snapshot.mark();
        // Each waits for the disk; together they wait once.
        let (noted, cached) = std::thread::scope(|scope| {
            let noted = scope.spawn(|| cache.note_published(&entry.name, mark));
            let cached = cache
                .note_sequence(snapshot.sequence)
                .and_then(|()| cache.note_seen(&seen))
                .and_then(|()| match self.request.origin {
                    None => sequencer.keep_in_cache(&entry.id, &snapshot),
                    Some(_) => Ok(()),
                });
            (noted.join().unwrap_or(Err(RepoError::Worker)), cached)
        });
        let cached = noted.and(cached);
        if let Err(error) = cached {
            self.monitor.warning(None, &format!("{error}; the next backup will take longer"));
        }
        outcome.snapshot = snapshot;
        Ok(Done::Finished(Box::new(outcome)))
    }
}

fn sorted(tags: &[String]) -> Vec<String> {
    let mut tags = tags.to_vec();
    tags.sort();
    tags.dedup();
    tags
}
