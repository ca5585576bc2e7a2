//! Operations on an open repository.

pub mod backup;
pub mod check;
pub mod restore;
pub mod select;
