//! Use cases: a typed request in, a typed outcome out. Opens repository and remote, runs one
//! operation of [`crate::ops`]. Knows no terminal and no environment.

pub mod auto_restore;
mod bench;
mod diff;
mod doctor;
mod drill;
mod error;
mod find;
mod forget;
mod full;
mod history;
mod key_roles;
mod keys;
mod location;
mod marks;
pub mod prune;
mod repair;
mod requests;
mod rollback;
mod run;
mod scratch;
mod scrub;
pub mod service;
mod sources;
mod status;
mod take_back;

pub use bench::{
    BenchOutcome, BenchRequest, Bound, Estimate, Left, Level, Rate, RemoteOutcome, RemoteSpeed, Stages, Tree,
    bench,
};
pub use diff::{DiffOutcome, DiffRequest, diff};
pub use doctor::{Finding, Severity, doctor};
pub use drill::drill;
pub use error::{AppError, RotationTrouble};
pub use find::{FindOutcome, FindRequest, find};
pub use forget::{ForgetPlan, ForgetRequest, forget, forget_named};
pub use full::{
    FullCreateRequest, FullExportRequest, FullFrom, FullImportRequest, FullPrunePlan, FullRestoreRequest,
    FullTarget, FullVerifyRequest, full_create, full_export, full_import, full_list, full_prune,
    full_prune_after, full_restore, full_verify,
};
pub use history::{SettlePlan, missing};
pub use key_roles::{Rotated, RotationPlan, WriterKeyAdded, key_add_writer, key_rotation};
pub use keys::{
    KeyRemovalPlan, Recovery, key_add, key_change, key_list, key_opens, key_recovery, key_removal, unlock,
    unlock_with_any_key,
};
pub use location::{Location, LocationError, SCHEME};
pub use marks::{Listing, accept, listing};
pub use repair::{RepairIndexPlan, RepairPacksRequest, repair_index, repair_packs, repair_snapshots};
pub use requests::{
    BackupRequest, CheckRequest, DoctorRequest, DrillRequest, InitRequest, LsRequest, RestoreRequest,
    Session, SnapshotInfo, StatsOutcome,
};
pub use rollback::{RollbackOutcome, RollbackRequest, RollbackTo, rollback, unfinished_rollback};
pub use run::{backup, cat, check, init, ls, probe, restore, snapshots, stats};
pub use scrub::{ScrubRequest, scrub};
pub use sources::{Sources, resolve};
pub use status::{Growth, Health, StatusOutcome, status};
pub use take_back::take_back;

pub use crate::crypto::{Passphrase, PhraseError, ScryptParams, read_phrase};
pub use crate::format::key_description_v1::{Description as KeyDescription, KeyKind};
pub use crate::gather::Profile;
pub use crate::gather::sqlite::{
    Differences as DatabaseDifferences, ObjectDifference, RowCounts, SchemaChange, TableDifference,
};
pub use crate::ops::alarm::Threshold;
pub use crate::ops::backup::{Outcome as BackupOutcome, ProfileChoice, Selection};
pub use crate::ops::check::{Outcome as CheckOutcome, Problem, ReadData};
pub use crate::ops::compare::Change;
pub use crate::ops::diff::{Difference, Patch, Request as DiffOptions, Summary as DiffSummary};
pub use crate::ops::drill::Error as DrillError;
pub use crate::ops::find::{Tree as FoundTree, Version};
pub use crate::ops::forget::{Error as ForgetError, Verdict as ForgetVerdict};
pub use crate::ops::full::{
    Created as FullCreated, Error as FullError, Exported as FullExported, Listed as FullListed,
    Passed as FullPassed, Restored as FullRestored, State as FullState, Verified as FullVerified,
};
pub use crate::ops::history::{Gap, Vanished};
pub use crate::ops::repair::Error as RepairError;
pub use crate::ops::repair::index::Outcome as RepairedIndex;
pub use crate::ops::repair::packs::{Outcome as RepairedPacks, Repaired as RepairedPack};
pub use crate::ops::repair::snapshots::{Damaged as DamagedSnapshot, Outcome as RepairedSnapshots};
pub use crate::ops::restore::Outcome as RestoreOutcome;
pub use crate::ops::retention::{Filter, Group, Grouping, GroupingError, Judged};
pub use crate::ops::rollback::{
    Error as RollbackError, Outcome as RolledBack, Plan as RollbackPlan, Step as RollbackStep,
};
pub use crate::ops::scrub::Outcome as ScrubOutcome;
pub use crate::ops::select::Error as SelectError;
pub use crate::rclone::{Secret, Settings as RcloneSettings, Target};
pub use crate::remote::{Fault, RequestCounts};
pub use crate::repo::{CatalogEntry, Compression, KeyChange, KeyInfo};
