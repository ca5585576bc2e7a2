//! A repository: our objects under one remote prefix. Owns their names and the order of writes.

mod accepted;
mod access;
mod base;
mod blobs;
mod cache;
mod catalog;
mod census;
mod compression;
mod copies;
mod damage;
mod drills;
mod error;
mod gc;
mod index;
mod keys;
mod layout;
mod manifest;
mod merge;
mod packer;
mod packing;
mod reads;
mod repository;
mod rotate;
mod scan;
mod seen;
mod shared_index;
mod sightings;
mod survey;
mod table;
mod writer_keys;

pub use blobs::{BlobReader, ObjectKeys};
pub use cache::{Baseline, BaselineWriter, Cache, CachePlace, FileMark, PageTable};
pub use catalog::{Catalog, CatalogEntry};
pub use census::{Census, CensusObject, CensusPack, Place};
pub use compression::Compression;
pub use damage::Damage;
pub use error::RepoError;
pub use gc::Condemnation;
pub use index::{BlobPlace, FramePlaceInfo, IdSet, Index, PackSummary};
pub use keys::KeyInfo;
pub use layout::{Folder, ObjectInfo, pack_name, parse_name, record_name};
pub use manifest::{ManifestReader, ManifestWriter, SegmentSink, load_slices, store_slices};
pub use packer::{Filler, FullFrame, Packer, PackerOptions, Published};
pub use repository::Repository;
pub use rotate::{Rotated, Rotation};
pub use scan::hash_object;
pub use seen::Seen;
pub use shared_index::{LoadedIndex, SharedIndex};
pub use sightings::{Sighting, Sightings};
pub use survey::{Standing, Survey};

#[cfg(test)]
pub(crate) mod tests;
