//! Machines that share a repository, the operations they run, and what every snapshot must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Numbers;
use super::client::{Call, Client, Deathbed, Fault};
use super::judge;
use super::provider::{Provider, Stored};
use crate::clock::{Boot, Clock};
use crate::crypto::{Passphrase, ScryptParams};
use crate::model::{ObjectId, Policy, Reason, SnapshotKind, Timestamp};
use crate::ops::retention::{Filter, Grouping};
use crate::ops::{alarm, backup, forget, prune, repair};
use crate::remote::{Counting, Remote};
use crate::repo::{CachePlace, Catalog, PackerOptions, RepoError, Repository};
use crate::report::{Monitor, Silent};

/// 128 KiB and the fewest rounds that the format allows.
pub(super) const CHEAP: ScryptParams = ScryptParams { log_n: 10, r: 1, p: 1 };
pub(super) const DAY: i64 = 86_400;
/// So many prunes reach what there is to be reached: what a first one sees for the first time a second one
/// condemns and a third one removes, and what was copied meanwhile is a small pack.
const TIDY: usize = 5;
/// The policy keeps so many.
pub(super) const KEPT: u32 = 2;
/// Just after the files that tests make: what was written before is settled.
const BEGINNING: i64 = 4_000_000_000;

/// Copies a directory; what is there goes.
pub(super) fn copy_dir(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    let Ok(entries) = fs::read_dir(from) else { return };
    fs::create_dir_all(to).unwrap();
    for entry in entries.flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            // Gone when another thread of a dying machine has just placed it.
            drop(fs::copy(entry.path(), target));
        }
    }
}

/// A clock that goes when it is told to.
#[derive(Default)]
pub(super) struct Hands(Mutex<(Timestamp, Duration)>);

impl Hands {
    fn at(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time passes.
    pub(super) fn pass(&self, secs: i64) {
        let mut at = self.at();
        at.0.secs += secs;
        at.1 += Duration::from_secs(u64::try_from(secs).unwrap());
    }

    /// Somebody sets the clock: no time passes.
    pub(super) fn jump(&self, secs: i64) {
        self.at().0.secs += secs;
    }

    fn stamp(&self, nanos: u32) {
        self.at().0.nanos = nanos;
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        self.at().0
    }

    fn monotonic(&self) -> Duration {
        self.at().1
    }

    fn boot(&self) -> Option<Boot> {
        Some(Boot { id: "simulated".into(), elapsed: self.at().1 })
    }
}

/// What a file holds: the first bytes of an endless sequence of its own, so that it can grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text {
    seed: u64,
    len: usize,
}

impl Text {
    pub(super) fn new(seed: u64, len: usize) -> Self {
        Self { seed, len }
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        blake3::Hasher::new().update(&self.seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }
}

/// A directory: paths and what they hold.
pub(super) type Tree = BTreeMap<String, Text>;

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Init,
    Backup,
    /// The publishing part of a rollback.
    Safety,
    /// Removes the world's target, a safety snapshot.
    Forget,
    /// Accepts the world's target, a marked snapshot.
    Accept,
    AddKey,
    ChangeKey,
    RemoveKey,
    /// Makes a key that can only write, for `writer`.
    AddWriter,
    /// Begins a new master key.
    Rotate,
    /// Makes the index say what the packs say; what of it cannot be read is deleted.
    RepairIndex,
    /// Saves what verifies of damaged packs.
    RepairPacks,
    /// Makes snapshots without what is lost.
    RepairSnapshots,
    /// The same, and the originals go.
    ReplaceSnapshots,
    /// Frees what nobody needs.
    Prune,
    /// Removes all regular snapshots but the newest of each directory.
    Policy,
}

/// A computer with a directory to be backed up.
pub(super) struct Machine {
    pub(super) cache: PathBuf,
    pub(super) source: PathBuf,
    pub(super) clock: Arc<Hands>,
    pub(super) tree: Tree,
    /// It has a key that can only write.
    pub(super) writes_only: bool,
}

/// What an operation came to.
pub(super) struct Attempt {
    pub(super) result: Result<Option<ObjectId>, String>,
    pub(super) calls: Vec<Call>,
}

/// What operations did and said, for who asks whether anything was tried at all.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Packs that prunes condemned, packs that they copied from, packs that they removed.
    pub(super) condemned: u64,
    pub(super) copied: u64,
    pub(super) deleted: u64,
    /// Snapshots that a backup missed.
    pub(super) vanished: Vec<String>,
}

/// Everything there is.
pub(super) struct World {
    pub(super) tally: Arc<Mutex<Tally>>,
    dir: tempfile::TempDir,
    pub(super) provider: Arc<Provider>,
    pub(super) machines: Vec<Machine>,
    /// What each backup was about to store, by its number.
    pub(super) trees: BTreeMap<u32, Tree>,
    /// Who made each of these.
    makers: BTreeMap<u32, usize>,
    /// Snapshots that somebody was told of, and nobody removed; in the order of that.
    pub(super) promised: Vec<ObjectId>,
    /// Objects that were damaged before the operation in question: a check may name them, and snapshots among
    /// them may be unreadable.
    pub(super) hurt: BTreeSet<String>,
    /// What `Forget` and `Accept` are about.
    pub(super) target: Option<ObjectId>,
    /// Operations so far: the nanoseconds of the clock, by which a snapshot is known again.
    ops: u32,
    versions: usize,
    /// What the next operation opens with.
    pub(super) passphrase: &'static str,
}

/// A moment of a world, to come back to.
pub(super) struct Saved {
    stored: Stored,
    trees: BTreeMap<u32, Tree>,
    promised: Vec<ObjectId>,
    times: Vec<(Timestamp, Duration)>,
    ops: u32,
    passphrase: &'static str,
}

pub(super) fn silent() -> Arc<dyn Monitor> {
    Arc::new(Silent)
}

pub(super) fn phrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec())
}

impl World {
    /// So many machines, and nothing stored.
    pub(super) fn new(machines: usize) -> Self {
        let dir = crate::fs::scratch();
        let machine = |n: usize| {
            let machine = Machine {
                cache: dir.path().join(format!("cache{n}")),
                source: dir.path().join(format!("source{n}")),
                clock: Arc::default(),
                tree: Tree::new(),
                writes_only: false,
            };
            fs::create_dir(&machine.source).unwrap();
            machine.clock.pass(BEGINNING);
            machine
        };
        let machines = (0..machines).map(machine).collect();
        Self {
            tally: Arc::default(),
            dir,
            provider: Arc::default(),
            machines,
            trees: BTreeMap::new(),
            makers: BTreeMap::new(),
            promised: Vec::new(),
            hurt: BTreeSet::new(),
            target: None,
            ops: 0,
            versions: 0,
            passphrase: "first",
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Time passes for all.
    pub(super) fn pass(&self, secs: i64) {
        self.machines.iter().for_each(|machine| machine.clock.pass(secs));
    }

    /// Gives a file another content; every content has a length of its own, so that no clock is needed to see
    /// the change.
    pub(super) fn write(&mut self, machine: usize, name: &str, text: Text) {
        let machine = &mut self.machines[machine];
        let path = machine.source.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.bytes()).unwrap();
        machine.tree.insert(name.to_string(), text);
    }

    pub(super) fn remove(&mut self, machine: usize, name: &str) {
        let machine = &mut self.machines[machine];
        if machine.tree.remove(name).is_some() {
            fs::remove_file(machine.source.join(name)).unwrap();
        }
    }

    /// New content, as long as no other.
    pub(super) fn fresh(&mut self, least: usize) -> Text {
        self.versions += 1;
        Text { seed: self.versions as u64, len: least + self.versions }
    }

    /// Changes a few files of a machine.
    pub(super) fn change(&mut self, machine: usize, numbers: &mut Numbers) {
        const NAMES: [&str; 9] =
            ["a.md", "b.json", "log.jsonl", "memory/one.md", "memory/two.md", "w/x/y", "w/x/z", "w/k", "big"];
        // Content comes back: what one machine removed another may have, and later the first one again.
        let pool: Vec<Text> = (0..12).map(|n| Text { seed: 1 << 40 | n as u64, len: 2_000 + n }).collect();
        for _ in 0..=numbers.below(3) {
            let name = *numbers.pick(&NAMES);
            let now = self.machines[machine].tree.get(name).copied();
            let text = match numbers.below(10) {
                0 | 1 => {
                    self.remove(machine, name);
                    continue;
                }
                2 | 3 if now.is_some() => {
                    self.versions += 1;
                    let now = now.unwrap();
                    Text { len: now.len + self.versions, ..now }
                }
                4..=7 => *numbers.pick(&pool),
                _ if name == "big" => self.fresh(66_000),
                _ => self.fresh(150),
            };
            if now != Some(text) && now.is_none_or(|now| now.len != text.len) {
                self.write(machine, name, text);
            }
        }
    }

    /// Remembers this moment. Sources stay as they are.
    pub(super) fn save(&self) -> Saved {
        for (n, machine) in self.machines.iter().enumerate() {
            copy_dir(&machine.cache, &self.path(&format!("saved{n}")));
        }
        Saved {
            stored: self.provider.save(),
            trees: self.trees.clone(),
            promised: self.promised.clone(),
            times: self.machines.iter().map(|machine| *machine.clock.at()).collect(),
            ops: self.ops,
            passphrase: self.passphrase,
        }
    }

    /// Goes back to a moment.
    pub(super) fn load(&mut self, saved: &Saved) {
        self.provider.load(&saved.stored);
        self.trees.clone_from(&saved.trees);
        self.promised.clone_from(&saved.promised);
        self.ops = saved.ops;
        self.passphrase = saved.passphrase;
        for (n, machine) in self.machines.iter().enumerate() {
            copy_dir(&self.path(&format!("saved{n}")), &machine.cache);
            *machine.clock.at() = saved.times[n];
        }
    }

    /// What operations have said and done since this was asked last.
    pub(super) fn tallied(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// No backup since this was asked last has missed snapshots.
    pub(super) fn nothing_vanished(&self) -> Result<(), String> {
        let missed = self.tallied().vanished;
        if missed.is_empty() { Ok(()) } else { Err(format!("false alarm: {missed:?}")) }
    }

    /// Who reads what a machine stores.
    pub(super) fn reader(&self, machine: usize) -> usize {
        if self.machines[machine].writes_only { 0 } else { machine }
    }

    /// Prunes until nothing is left to be done; each one days after the other.
    pub(super) fn tidy(&mut self, machine: usize) -> Result<(), String> {
        for _ in 0..TIDY {
            self.pass(3 * DAY);
            self.attempt(machine, Op::Prune, None).result?;
        }
        Ok(())
    }

    /// A machine loses its cache.
    pub(super) fn lose_cache(&self, machine: usize) {
        drop(fs::remove_dir_all(&self.machines[machine].cache));
    }

    /// The next operation of a machine begins.
    pub(super) fn begin(&mut self, machine: usize) {
        self.ops += 1;
        self.machines[machine].clock.stamp(self.ops);
        self.trees.insert(self.ops, self.machines[machine].tree.clone());
        self.makers.insert(self.ops, machine);
    }

    /// Who made the snapshot with this number.
    pub(super) fn maker(&self, number: u32) -> Option<usize> {
        self.makers.get(&number).copied()
    }

    /// A policy is about to be carried out: what is neither a safety snapshot nor among the newest of its
    /// machine may go. A machine that is just backing up may have a newer one any time.
    pub(super) fn expect_policy(&mut self, busy: &[usize]) {
        let Ok(all) = judge::regular(self) else { return };
        let maker = |number: &u32| self.makers.get(number).copied();
        let stays = |id: &ObjectId| {
            let Some((_, time, number)) = all.iter().find(|(other, ..)| other == id) else { return true };
            let newer = all
                .iter()
                .filter(|(other, since, by)| other != id && since >= time && maker(by) == maker(number));
            let coming = maker(number).is_some_and(|machine| busy.contains(&machine));
            newer.count() + usize::from(coming) < usize::try_from(KEPT).unwrap()
        };
        let promised = self.promised.iter().copied().filter(stays).collect();
        self.promised = promised;
    }

    /// Runs an operation, with a fault at one of its calls.
    pub(super) fn attempt(&mut self, machine: usize, op: Op, plan: Option<(usize, Fault)>) -> Attempt {
        self.begin(machine);
        if op == Op::Policy {
            self.expect_policy(&[]);
        }
        let kept = self.path("deathbed");
        drop(fs::remove_dir_all(&kept));
        let mut client = Client::new(&self.provider);
        client.plan = plan;
        let cache = self.machines[machine].cache.clone();
        let kills = plan.is_some_and(|(_, fault)| fault.kills());
        client.deathbed = kills.then(|| Deathbed { cache: cache.clone(), kept: kept.clone() });
        let client = Arc::new(client);
        let job = self.job(machine, op);
        let result = job.run(&(Arc::clone(&client) as Arc<dyn Remote>)).map_err(|e| e.to_string());
        let calls = client.calls();
        if kills && plan.is_some_and(|(at, _)| at < calls.len()) {
            // Of what a dead process would have done after its last call nothing was done.
            copy_dir(&kept, &cache);
            return Attempt { result: Err("died".into()), calls };
        }
        self.promise(op, &result);
        Attempt { result, calls }
    }

    /// What an operation reported counts from now on.
    pub(super) fn promise(&mut self, op: Op, result: &Result<Option<ObjectId>, String>) {
        match (op, result) {
            (Op::Backup | Op::Safety, Ok(Some(id))) => self.promised.push(*id),
            (Op::ChangeKey | Op::RemoveKey, Ok(_)) => self.passphrase = "second",
            _ => {}
        }
    }

    /// Runs an operation that must succeed.
    pub(super) fn run(&mut self, machine: usize, op: Op) -> Option<ObjectId> {
        self.attempt(machine, op, None).result.unwrap()
    }

    /// An operation with all that it needs.
    pub(super) fn job(&mut self, machine: usize, op: Op) -> Job {
        if op == Op::Forget
            && let Some(target) = self.target
        {
            // From here on nobody counts on it.
            self.promised.retain(|id| *id != target);
        }
        let machine = &self.machines[machine];
        Job {
            op,
            tally: Arc::clone(&self.tally),
            cache: machine.cache.clone(),
            source: machine.source.clone(),
            clock: Arc::clone(&machine.clock) as _,
            target: self.target,
            passphrase: if machine.writes_only { "writer" } else { self.passphrase },
        }
    }
}

/// An operation of one machine.
pub(super) struct Job {
    op: Op,
    tally: Arc<Mutex<Tally>>,
    cache: PathBuf,
    source: PathBuf,
    clock: Arc<dyn Clock>,
    target: Option<ObjectId>,
    passphrase: &'static str,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Job {
    /// Does it; of a backup, the snapshot.
    pub(super) fn run(&self, remote: &Arc<dyn Remote>) -> Result<Option<ObjectId>, Failure> {
        let (first, second, monitor) = (phrase("first"), phrase("second"), silent());
        let caches = CachePlace { dir: &self.cache, keeps_key: true };
        let counting = Arc::new(Counting::new(Arc::clone(remote)));
        let handle: Arc<dyn Remote> = Arc::clone(&counting) as _;
        let open = || Repository::open(Arc::clone(&handle), &phrase(self.passphrase), caches);
        let now = self.clock.now();
        match self.op {
            Op::Init => {
                Repository::init(&handle, &first, caches, CHEAP, now, "first")?;
            }
            Op::Backup | Op::Safety => {
                let opened = Repository::open_for_backup(handle, &phrase(self.passphrase), caches);
                let (repository, catalog) = opened?;
                let packer = PackerOptions { pack_size: 4_000, ..PackerOptions::new(1) };
                let mut request = backup::Request::new(self.source.clone(), packer);
                if self.op == Op::Safety {
                    (request.kind, request.reason) = (SnapshotKind::Safety, Reason::Safety);
                }
                let made = backup::run(&repository, &catalog, &counting, &request, &monitor, &self.clock)?;
                let missed = made.vanished.iter().map(|one| format!("{one:?}"));
                self.tally.lock().unwrap_or_else(PoisonError::into_inner).vanished.extend(missed);
                if !made.errors.is_empty() {
                    return Err(format!("errors: {:?}", made.errors).into());
                }
                return Ok(made.id);
            }
            Op::Forget => {
                let repository = open()?;
                let Some(target) = self.target else { return Ok(None) };
                let ids = [target.to_string()];
                let safety = Catalog::load(&repository, SnapshotKind::Safety)?.contains(&target);
                let targets = match safety {
                    true => forget::plan_safety(&repository, &ids)?,
                    false => forget::plan_regular(&repository, &ids, true, monitor.as_ref())?,
                };
                forget::run(&repository, &targets, monitor.as_ref())?;
            }
            Op::Accept => {
                let repository = open()?;
                let catalog = Catalog::load(&repository, SnapshotKind::Regular)?;
                let marked = catalog.entries().iter().filter(|entry| Some(entry.id) == self.target);
                let marked = marked.map(|entry| Ok((entry.id, repository.snapshot(entry)?)));
                let marked = marked.collect::<Result<Vec<_>, RepoError>>()?;
                alarm::accept(&repository, &marked, self.clock.as_ref())?;
            }
            Op::Policy => {
                let repository = open()?;
                let policy = Policy { last: KEPT, ..Policy::default() };
                let zoned = jiff::Timestamp::new(now.secs, 0)?.to_zoned(jiff::tz::TimeZone::UTC);
                let (grouping, filter) = (Grouping::default(), Filter::default());
                let verdict =
                    forget::judge(&repository, &policy, grouping, &filter, &zoned, monitor.as_ref())?;
                forget::run(&repository, &verdict.targets, monitor.as_ref())?;
            }
            Op::Prune => {
                let repository = open()?;
                let packer = PackerOptions { pack_size: 4_000, ..PackerOptions::new(1) };
                // Whatever is partly needed is copied: these repositories are too small for it to pay.
                let request = prune::Request { max_unused: 0.0, ..prune::Request::new(packer) };
                let pruned = prune::run(&repository, &counting, &request, &monitor, &self.clock)?;
                let done = pruned.done.unwrap_or_default();
                let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.condemned += done.condemned.packs;
                tally.copied += done.repacked.packs;
                tally.deleted += done.deleted.packs;
            }
            Op::AddKey => {
                open()?.add_key(&first, &second, CHEAP, now, "second")?;
            }
            Op::ChangeKey => {
                open()?.change_key(&first, &second, CHEAP, now)?;
            }
            Op::AddWriter => {
                open()?.add_writer_key(&phrase(self.passphrase), &phrase("writer"), CHEAP, now, "writer")?;
            }
            Op::Rotate => {
                let (repository, own) = (open()?, phrase(self.passphrase));
                let rotated = repository.rotate(&own, repository.plan_rotation(&own)?, now)?;
                if let Some((key, error)) = rotated.left.into_iter().next() {
                    return Err(format!("key {key} is left: {error}").into());
                }
            }
            Op::RepairIndex => {
                let plan = repair::index::plan(&open()?, true, monitor.as_ref())?;
                repair::index::run(&plan, 1, &monitor, &self.clock)?;
            }
            Op::RepairPacks => {
                let packer = PackerOptions { pack_size: 4_000, ..PackerOptions::new(1) };
                let which = repair::packs::Which::All;
                repair::packs::run(&open()?, &which, packer, false, &monitor, &self.clock)?;
            }
            Op::RepairSnapshots | Op::ReplaceSnapshots => {
                let packer = PackerOptions { pack_size: 4_000, ..PackerOptions::new(1) };
                let forget_originals = self.op == Op::ReplaceSnapshots;
                let request = repair::snapshots::Request { dry_run: false, forget_originals, packer };
                let outcome = repair::snapshots::run(&open()?, &request, &monitor, &self.clock)?;
                let left = |s: &&repair::snapshots::Damaged| s.repaired.is_none() && s.hopeless.is_none();
                if let Some(snapshot) = outcome.snapshots.iter().find(left) {
                    return Err(
                        format!("{} has no repaired one: {:?}", snapshot.name, snapshot.hopeless).into()
                    );
                }
            }
            Op::RemoveKey => {
                let repository = Repository::open(Arc::clone(&handle), &second, caches)?;
                // Whoever knows the first passphrase knows its key; when that is gone, there is nothing to do.
                let old = match repository.keys(&first) {
                    Ok(keys) => keys.into_iter().find(|key| key.current),
                    Err(RepoError::WrongKey { .. }) => None,
                    Err(e) => return Err(e.into()),
                };
                if let Some(old) = old {
                    repository.remove_key(&repository.key_removal(&second, &old.id.to_string())?)?;
                }
            }
        }
        Ok(None)
    }
}
