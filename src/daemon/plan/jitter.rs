//! How much later than its time a run comes.

use super::Rules;
use crate::daemon::job::Job;

/// Seconds, the same whenever it is asked for the same run on the same machine.
pub(super) fn of(rules: &Rules, job: Job, slot: i64) -> i64 {
    let most = rules.jitter.as_secs();
    if most == 0 {
        return 0;
    }
    let mut hasher = blake3::Hasher::new_keyed(&rules.seed);
    hasher.update(job.name().as_bytes()).update(&slot.to_le_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    i64::try_from(u64::from_le_bytes(bytes) % most.saturating_add(1)).unwrap_or(0)
}
