//! A deterministic simulation of a repository's whole world, for tests: the storage provider with its faults,
//! several machines with their caches, their directories and their clocks, and who of them is next.
//!
//! Everything follows from a seed, but for inodes and directory names. [`provider`] holds the objects and every
//! way to see or change them that an honest but troubled service has; [`client`] is a machine's way there, with
//! a fault planned for one of its calls; [`turns`] says whose call is next; [`world`] runs operations of
//! [`crate::ops`] and remembers, as a naive model, what each snapshot must hold; [`judge`] compares. On top of
//! them [`faults`] tries every fault at every call of every operation, [`histories`] lets machines work at once,
//! call by call, in an order that the seed chooses, [`power`] cuts the power of a local repository's machine,
//! and [`damage`] hurts every kind of object in every way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod client;
mod damage;
mod faults;
mod histories;
mod judge;
#[cfg(target_os = "linux")]
mod power;
mod provider;
mod tests;
mod turns;
mod world;

/// Numbers that are the same for the same seed (`SplitMix64`).
#[derive(Debug, Clone)]
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    /// True so many times of a hundred.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
