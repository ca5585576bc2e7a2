//! Operations on an open repository.

pub mod backup;
mod cache_keys;
pub mod check;
pub mod compare;
pub mod content;
pub mod restore;
pub mod rollback;
pub mod select;
