//! Operations on an open repository.

pub mod alarm;
pub mod auto_restore;
pub mod backup;
mod cache_keys;
pub mod check;
pub mod compare;
pub mod content;
pub mod diff;
pub mod drill;
pub mod find;
pub mod forget;
pub mod full;
pub mod history;
pub mod prune;
pub mod relocate;
pub mod repair;
pub mod restore;
pub mod retention;
pub mod rollback;
pub mod scrub;
pub mod select;
mod tree;

#[cfg(test)]
mod random_trees;
