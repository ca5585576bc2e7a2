//! The small objects of a repository: each is what its name says, and can be understood.

use std::collections::BTreeSet;

use super::{Check, State, problem, verdict};
use crate::crypto::{self, ObjectKind};
use crate::format::{acceptance_v1, gc_v1, key_v1, limits, removal_v1};
use crate::model::{ObjectId, Timestamp};
use crate::remote::Listed;
use crate::repo::{Folder, ObjectInfo, RepoError, Repository, Standing, pack_name, record_name};

impl Check<'_> {
    /// The marker is still that of this repository.
    pub(super) fn marker(&mut self) -> Result<(), RepoError> {
        let message = match Repository::probe(self.repository.remote()) {
            Ok(marker) if marker.id == self.repository.id() => return Ok(()),
            Ok(_) => "is the marker of another repository".to_string(),
            Err(e) => verdict(e)?,
        };
        self.outcome.problems.push(problem("exuvia.json", message));
        Ok(())
    }

    /// Lists a folder; what else lies in it is worth a note.
    pub(super) fn list(&mut self, folder: Folder) -> Result<Vec<ObjectInfo>, RepoError> {
        let (ours, strangers) = self.repository.list_all(folder)?;
        self.strangers(strangers);
        Ok(ours)
    }

    pub(super) fn strangers(&mut self, strangers: Vec<Listed>) {
        let notes = strangers.into_iter().map(|l| format!("{} is not an object of a repository", l.name));
        self.notes(notes.collect());
    }

    /// Every key object can be taken apart, whoever has its passphrase.
    pub(super) fn keys(&mut self) -> Result<(), RepoError> {
        for ObjectInfo { name, id, .. } in self.list(Folder::Keys)? {
            let found = match self.repository.remote().get(&name, limits::KEY_OBJECT as u64) {
                Ok(bytes) if crypto::sha256(&bytes) != id.0 => {
                    Err(RepoError::NameMismatch { name: name.clone() })
                }
                Ok(bytes) => key_v1::inspect(&bytes).map_err(RepoError::object(&name)),
                // Removed between the listing and the read: that is its owner's right.
                Err(e) if e.is_not_found() => Ok(()),
                Err(e) => Err(e.into()),
            };
            self.judge(&name, found)?;
        }
        Ok(())
    }

    /// Adds the problem, if it is one.
    fn judge(&mut self, name: &str, found: Result<(), RepoError>) -> Result<(), RepoError> {
        if let Err(error) = found {
            self.outcome.problems.push(problem(name, verdict(error)?));
        }
        Ok(())
    }

    /// Reads a record that somebody may remove any time; its time must be that of its name.
    fn record(
        &mut self,
        (folder, kind): (Folder, ObjectKind),
        object: &ObjectInfo,
        decode: impl FnOnce(&[u8]) -> Result<Timestamp, RepoError>,
    ) -> Result<(), RepoError> {
        let found = match self.repository.read_record(kind, &object.name, &object.id) {
            Err(RepoError::Remote(e)) if e.is_not_found() => return Ok(()),
            Err(e) => Err(e),
            Ok(record) => decode(&record).and_then(|time| {
                if record_name(folder, time, &object.id) == object.name {
                    Ok(())
                } else {
                    Err(RepoError::NameMismatch { name: object.name.clone() })
                }
            }),
        };
        self.judge(&object.name, found)
    }

    /// Reads the gc records; returns the packs that they condemn.
    pub(super) fn gc_records(&mut self) -> Result<BTreeSet<ObjectId>, RepoError> {
        let mut condemned = BTreeSet::new();
        for object in self.list(Folder::Gc)? {
            self.record((Folder::Gc, ObjectKind::Gc), &object, |record| {
                let gc = gc_v1::decode(record).map_err(RepoError::object(&object.name))?;
                condemned.extend(gc.packs);
                Ok(gc.time)
            })?;
        }
        Ok(condemned)
    }

    pub(super) fn acceptances(&mut self) -> Result<(), RepoError> {
        for object in self.list(Folder::Accepted)? {
            self.record((Folder::Accepted, ObjectKind::Acceptance), &object, |record| {
                let acceptance = acceptance_v1::decode(record).map_err(RepoError::object(&object.name))?;
                Ok(acceptance.time)
            })?;
        }
        Ok(())
    }

    pub(super) fn removals(&mut self) -> Result<(), RepoError> {
        for object in self.list(Folder::Removed)? {
            self.record((Folder::Removed, ObjectKind::Removal), &object, |record| {
                let removal = removal_v1::decode(record).map_err(RepoError::object(&object.name))?;
                Ok(removal.time)
            })?;
        }
        Ok(())
    }

    /// What the index objects are, and which packs none of them lists.
    pub(super) fn index(&mut self, state: &State) -> Result<(), RepoError> {
        let State { survey, objects, packs } = state;
        self.outcome.packs = survey.index().packs()?.len() as u64;
        self.outcome.blobs = 0;
        for blob in survey.index().blobs() {
            blob?;
            self.outcome.blobs += 1;
        }
        let mut superfluous = Vec::new();
        for (object, error) in &survey.unreadable {
            if survey.replaced.contains(&object.id) {
                superfluous.push(format!("{} is damaged, and another one replaces it", object.name));
            } else {
                self.outcome.problems.push(problem(&object.name, error));
            }
        }
        let read = objects.iter().filter(|object| !survey.unreadable.iter().any(|(o, _)| o.id == object.id));
        for object in read.filter(|object| survey.replaced.contains(&object.id)) {
            superfluous.push(format!("{} is still there, and another one replaces it", object.name));
        }
        self.notes(superfluous);
        for id in &survey.contradictions {
            let message = "is listed by several index objects, which differ";
            self.outcome.problems.push(problem(&pack_name(id), message));
        }
        let mut orphans = Vec::new();
        for id in packs.keys() {
            if !survey.index().contains_pack(id)? {
                orphans.push(format!(
                    "{} is in no index: left by an interrupted backup, or its index is damaged",
                    pack_name(id)
                ));
            }
        }
        self.notes(orphans);
        let standings = (0u32..).take(survey.index().packs()?.len()).map(|n| survey.standing(n));
        let waiting = standings.filter(|standing| *standing == Standing::Condemned).count();
        if waiting > 0 {
            self.outcome.notes.push(format!("condemned packs that a prune has not deleted yet: {waiting}"));
        }
        Ok(())
    }
}
