//! A machine's way to the provider: counts its calls, and has a fault for one of them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::provider::{Effect, Provider, Stored};
use super::turns::Turns;
use super::world::copy_dir;
use crate::remote::{Fault as Reason, Listed, Remote, RemoteError, Verb};

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, once.
    Once,
    /// It fails, and every later one.
    From,
    /// The machine dies before the request is on its way.
    CrashBefore,
    /// The machine dies when the request is done, before it hears of that.
    CrashAfter,
    /// The request is done, and the answer is an error.
    Unheard,
    /// So many eighths of the bytes arrive, under the object's name; the answer is an error.
    Torn(usize),
    /// The same, and the machine dies.
    TornCrash(usize),
    /// The answer is good, and the change shows only after so many further requests of anybody.
    Late(u64),
    /// The answer is an error, and yet the change happens, long after.
    Orphan,
    /// The machine dies, and yet the change happens, long after.
    OrphanCrash,
    /// The listing is that of so many requests ago.
    Stale(u64),
    /// This one and all later listings are.
    StaleFrom(u64),
}

impl Fault {
    /// What can go wrong with a request of this kind.
    pub(super) fn of(verb: Verb) -> &'static [Self] {
        match verb {
            Verb::Get | Verb::Stat => &[Self::Once, Self::From, Self::CrashBefore],
            Verb::List => &[
                Self::Once,
                Self::From,
                Self::CrashBefore,
                Self::Stale(2),
                Self::Stale(9),
                Self::StaleFrom(4),
                Self::StaleFrom(40),
            ],
            Verb::Put => &[
                Self::Once,
                Self::From,
                Self::CrashBefore,
                Self::CrashAfter,
                Self::Unheard,
                Self::Torn(0),
                Self::Torn(4),
                Self::TornCrash(7),
                Self::Late(1),
                Self::Late(3),
                Self::Orphan,
                Self::OrphanCrash,
            ],
            Verb::Delete => &[
                Self::Once,
                Self::From,
                Self::CrashBefore,
                Self::CrashAfter,
                Self::Unheard,
                Self::Late(2),
                Self::Orphan,
                Self::OrphanCrash,
            ],
        }
    }

    /// Those of an honest service: one that hides or tears what it has confirmed breaks what clients count on,
    /// so that is tried with one client at a time.
    fn among_clients(verb: Verb) -> Vec<Self> {
        let honest = |fault: &Self| !fault.tears() && !matches!(fault, Self::Late(_));
        Self::of(verb).iter().copied().filter(honest).collect()
    }

    /// The process ends here: what it would have written to its cache after this is not written.
    pub(super) fn kills(self) -> bool {
        matches!(self, Self::CrashBefore | Self::CrashAfter | Self::TornCrash(_) | Self::OrphanCrash)
    }

    pub(super) fn tears(self) -> bool {
        matches!(self, Self::Torn(_) | Self::TornCrash(_))
    }
}

/// One call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) name: String,
}

/// Everything that was asked of a provider, for who has to understand a failure.
#[derive(Default)]
pub(super) struct Trace(Mutex<String>);

impl Trace {
    pub(super) fn note(&self, line: std::fmt::Arguments<'_>) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(text, "{line}").unwrap();
    }

    pub(super) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Default)]
struct Progress {
    calls: Vec<Call>,
    /// The service does not answer any more, or there is nobody left to ask.
    over: bool,
    /// Listings lag so much from now on.
    lag: u64,
    /// The fault that happened.
    met: Option<Fault>,
}

/// What becomes of a call.
enum Fate {
    Done { lag: u64 },
    Refused,
    Unheard,
    Torn(usize),
    Later { requests: u64, heard: bool },
}

/// The cache of a machine that will die, and where it is kept as it was then.
pub(super) struct Deathbed {
    pub(super) cache: PathBuf,
    pub(super) kept: PathBuf,
}

/// A remote.
pub(super) struct Client {
    pub(super) provider: Arc<Provider>,
    /// Which call, and what of it.
    pub(super) plan: Option<(usize, Fault)>,
    /// Which call, and a number that chooses among the faults that may happen among several clients.
    pub(super) any: Option<(usize, u64)>,
    pub(super) deathbed: Option<Deathbed>,
    pub(super) turns: Option<(Arc<Turns>, usize)>,
    pub(super) trace: Option<(Arc<Trace>, String)>,
    /// It looks on: its requests are not time that passes for listings that lag.
    pub(super) observes: bool,
    progress: Mutex<Progress>,
}

impl Client {
    pub(super) fn new(provider: &Arc<Provider>) -> Self {
        Self {
            provider: Arc::clone(provider),
            plan: None,
            any: None,
            deathbed: None,
            turns: None,
            trace: None,
            observes: false,
            progress: Mutex::default(),
        }
    }

    /// One that changes nothing, and that nobody notices.
    pub(super) fn observer(provider: &Arc<Provider>) -> Arc<dyn Remote> {
        Arc::new(Self { observes: true, ..Self::new(provider) })
    }

    /// The calls made so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.progress().calls.clone()
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that has happened.
    pub(super) fn met(&self) -> Option<Fault> {
        self.progress().met
    }

    fn planned(&self, number: usize, verb: Verb) -> Option<Fault> {
        match (self.plan, self.any) {
            (Some((at, fault)), _) => (at == number).then_some(fault),
            (None, Some((at, choice))) if at == number => {
                let among = Fault::among_clients(verb);
                among.get(usize::try_from(choice % among.len() as u64).unwrap()).copied()
            }
            _ => None,
        }
    }

    fn die(&self, progress: &mut Progress) {
        progress.over = true;
        if let Some(Deathbed { cache, kept }) = &self.deathbed {
            copy_dir(cache, kept);
        }
    }

    /// Decides over the next call. For one that dies after its effect, that is when this returns.
    fn fate(&self, verb: Verb, name: &str) -> Fate {
        let mut progress = self.progress();
        let number = progress.calls.len();
        progress.calls.push(Call { verb, name: name.to_string() });
        if progress.over {
            return Fate::Refused;
        }
        let normal = Fate::Done { lag: progress.lag };
        let Some(fault) = self.planned(number, verb) else { return normal };
        progress.met = Some(fault);
        if fault.kills() {
            self.die(&mut progress);
        }
        match fault {
            Fault::Once | Fault::CrashBefore => Fate::Refused,
            Fault::From => {
                progress.over = true;
                Fate::Refused
            }
            Fault::Unheard | Fault::CrashAfter => Fate::Unheard,
            Fault::Torn(eighths) | Fault::TornCrash(eighths) => Fate::Torn(eighths),
            Fault::Late(requests) => Fate::Later { requests, heard: true },
            Fault::Orphan | Fault::OrphanCrash => Fate::Later { requests: u64::MAX, heard: false },
            Fault::Stale(lag) => Fate::Done { lag },
            Fault::StaleFrom(lag) => {
                progress.lag = lag;
                Fate::Done { lag }
            }
        }
    }

    fn refusal(verb: Verb, name: &str) -> RemoteError {
        let (name, message) = (name.to_string(), "no answer".to_string());
        RemoteError::Service { verb, name, message, fault: Reason::Transient }
    }

    fn read<T>(
        &self,
        verb: Verb,
        name: &str,
        look: impl FnOnce(&Stored, u64) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        self.answered(verb, name, |fate, stored| match fate {
            Fate::Done { lag } => look(stored, lag),
            _ => Err(Self::refusal(verb, name)),
        })
    }

    fn change(&self, verb: Verb, effect: Effect, only_new: bool) -> Result<(), RemoteError> {
        let name = effect.name().to_string();
        self.answered(verb, &name, |fate, stored| {
            if only_new && !matches!(fate, Fate::Refused) && stored.get(&name).is_ok() {
                return Err(RemoteError::Exists { name: name.clone() });
            }
            let heard = match fate {
                Fate::Done { .. } => {
                    stored.apply(&effect);
                    true
                }
                Fate::Refused => false,
                Fate::Unheard => {
                    stored.apply(&effect);
                    false
                }
                Fate::Torn(eighths) => {
                    if let Effect::Put(name, bytes) = effect {
                        let part = &bytes[..bytes.len() * eighths / 8];
                        stored.apply(&Effect::Put(name, part.into()));
                    }
                    false
                }
                Fate::Later { requests, heard } => {
                    stored.postpone(requests, effect);
                    heard
                }
            };
            if heard { Ok(()) } else { Err(Self::refusal(verb, &name)) }
        })
    }

    fn answered<T>(
        &self,
        verb: Verb,
        name: &str,
        answer: impl FnOnce(Fate, &mut Stored) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        if let Some((turns, actor)) = &self.turns {
            turns.wait(*actor);
        }
        let fate = self.fate(verb, name);
        let mut stored = self.provider.stored();
        if !self.observes {
            stored.tick();
        }
        let result = answer(fate, &mut stored);
        if let Some((trace, who)) = &self.trace {
            let end = result.as_ref().err().map(|e| format!(": {e}")).unwrap_or_default();
            trace.note(format_args!("{who} {verb} {name}{end}"));
        }
        result
    }
}

impl Remote for Client {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.read(Verb::Get, name, |stored, _| {
            let bytes = stored.get(name)?;
            let found = bytes.len() as u64;
            if found > max {
                return Err(RemoteError::Size { name: name.to_string(), expected: max, found });
            }
            Ok(bytes.to_vec())
        })
    }

    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.read(Verb::Get, name, |stored, _| {
            let bytes = stored.get(name)?;
            let (found, expected) = (bytes.len() as u64, offset.saturating_add(len));
            if expected > found {
                return Err(RemoteError::Size { name: name.to_string(), expected, found });
            }
            let at = |n| usize::try_from(n).unwrap();
            Ok(bytes[at(offset)..at(expected)].to_vec())
        })
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.change(Verb::Put, Effect::Put(name.to_string(), bytes.into()), false)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.change(Verb::Put, Effect::Put(name.to_string(), bytes.into()), true)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        self.read(Verb::List, folder, |stored, lag| Ok(stored.listed(folder, lag)))
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.read(Verb::Stat, name, |stored, _| Ok(stored.get(name)?.len() as u64))
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.change(Verb::Delete, Effect::Delete(name.to_string()), false)
    }

    fn location(&self) -> String {
        "provider".into()
    }
}
