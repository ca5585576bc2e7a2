//! What a backup and a restore do with bytes, each for itself and on one core.

use std::hint::black_box;
use std::time::Duration;

use super::AppError;
use super::sample::Sample;
use super::timer::{Rate, Timer};
use crate::chunk::{Chunker, TARGET_CHUNK};
use crate::crypto::{self, Keyring, MasterKey, ObjectKey, ObjectKind, Passphrase, ScryptParams};
use crate::format::FormatError;
use crate::format::pack_v1::{self, FrameInfo};
use crate::format::sealed_v1::Sealer;
use crate::model::{BlobKind, RepositoryId};
use crate::repo::Compression;

/// Speeds on one core.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// Cutting files where their content says so.
    pub chunking: Rate,
    /// Keyed BLAKE3: the names of blobs.
    pub hashing: Rate,
    /// zstd as `fast`, `default` and `max` use it.
    pub compression: [Level; 3],
    /// Encryption and authentication.
    pub sealing: Rate,
    /// SHA-256: the names of objects.
    pub naming: Rate,
    /// Decryption and decompression, in bytes that come out.
    pub opening: Rate,
    /// From a passphrase to a key.
    pub key: Duration,
    /// The same for the copy in the cache.
    pub cached_key: Duration,
}

/// How one choice of compression does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// The choice.
    pub compression: Compression,
    /// Its speed, in bytes before compression.
    pub rate: Rate,
    /// Bytes of the sample, as far as the default got; the same for all choices.
    pub raw: u64,
    /// What they become.
    pub packed: u64,
}

impl Level {
    /// What `bytes` become.
    #[must_use]
    pub fn stored(&self, bytes: u64) -> u64 {
        let stored = u128::from(bytes) * u128::from(self.packed) / u128::from(self.raw.max(1));
        u64::try_from(stored).unwrap_or(u64::MAX)
    }
}

const CHOICES: [Compression; 3] = [Compression::Fast, Compression::Default, Compression::Max];

fn failed(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> AppError {
    move |e| AppError::Measure { what, message: e.to_string() }
}

/// Measures all stages.
pub(super) fn measure(timer: &Timer, sample: &Sample) -> Result<Stages, AppError> {
    // No repository's keys: these take as long.
    let keys = Keyring::new(&MasterKey::from_bytes([7; 32]));
    let sealer = Sealer { repository: RepositoryId([7; 16]), keys };
    let frames = sample.frames();
    let [fast, default, max] = CHOICES.map(|choice| compress(timer, &frames, choice));
    let packed = [fast?, default?, max?];
    Ok(Stages {
        chunking: chunk(timer, &frames, &sealer.keys)?,
        hashing: hash(timer, &frames, &sealer.keys)?,
        sealing: seal(timer, &frames, &sealer)?,
        naming: timer.rate(&frames, |frame| {
            black_box(crypto::sha256(frame));
            Ok(frame.len())
        })?,
        opening: open(timer, &frames, &packed[1].frames, &sealer)?,
        compression: levels(&frames, &packed),
        key: key(timer, ScryptParams::PASSPHRASE)?,
        cached_key: key(timer, ScryptParams::CACHED)?,
    })
}

fn chunk(timer: &Timer, frames: &[&[u8]], keys: &Keyring) -> Result<Rate, AppError> {
    let chunker = Chunker::new(keys.gear_table());
    timer.rate(frames, |frame| {
        let mut rest = frame;
        while let Some(len) = chunker.cut(rest, true) {
            rest = &rest[len..];
        }
        Ok(frame.len())
    })
}

fn hash(timer: &Timer, frames: &[&[u8]], keys: &Keyring) -> Result<Rate, AppError> {
    timer.rate(frames, |frame| {
        for chunk in frame.chunks(TARGET_CHUNK) {
            black_box(keys.blob_id(BlobKind::Data, chunk));
        }
        Ok(frame.len())
    })
}

struct Compressed {
    compression: Compression,
    rate: Rate,
    /// In the order of the sample's frames, each once, as far as the time was enough.
    frames: Vec<Vec<u8>>,
}

fn compress(timer: &Timer, frames: &[&[u8]], compression: Compression) -> Result<Compressed, AppError> {
    let failed = failed("compression");
    let mut compressor = zstd::bulk::Compressor::new(compression.level()).map_err(|e| failed(&e))?;
    let mut packed = Vec::new();
    let rate = timer.rate(frames, |frame| {
        let bytes = compressor.compress(frame).map_err(|e| failed(&e))?;
        if packed.len() < frames.len() {
            packed.push(bytes);
        }
        Ok(frame.len())
    })?;
    Ok(Compressed { compression, rate, frames: packed })
}

/// Sizes are those of the frames that the default got to, in one turn. A slower choice got to fewer, and
/// so does as much better or worse on all as it did on these.
fn levels(frames: &[&[u8]], packed: &[Compressed; 3]) -> [Level; 3] {
    // What does not get shorter is stored as it is.
    let sizes = |packed: &[Vec<u8>], count| -> u64 {
        let both = frames.iter().zip(packed).take(count);
        both.map(|(raw, packed)| packed.len().min(raw.len()) as u64).sum()
    };
    let [_, Compressed { frames: default, .. }, _] = packed;
    let common = packed.iter().map(|choice| choice.frames.len()).min().unwrap_or(0);
    let (whole, part) = (sizes(default, default.len()), sizes(default, common).max(1));
    packed.each_ref().map(|choice| Level {
        compression: choice.compression,
        rate: choice.rate,
        raw: frames.iter().take(default.len()).map(|raw| raw.len() as u64).sum(),
        packed: sizes(&choice.frames, common) * whole / part,
    })
}

fn seal(timer: &Timer, frames: &[&[u8]], sealer: &Sealer) -> Result<Rate, AppError> {
    let key = ObjectKey::from_bytes([7; 32]);
    let (mut buffer, mut number) = (Vec::new(), 0);
    timer.rate(frames, |frame| {
        buffer.clear();
        buffer.extend_from_slice(frame);
        let place = sealer.place(ObjectKind::Pack, number, false);
        number += 1;
        key.seal(place, &mut buffer, 0).map_err(|e| failed("sealing")(&e))?;
        Ok(frame.len())
    })
}

/// A frame as a pack holds it.
fn sealed(
    raw: &[u8],
    packed: &[u8],
    key: &ObjectKey,
    sealer: &Sealer,
) -> Result<(FrameInfo, Vec<u8>), FormatError> {
    let compressed = packed.len() < raw.len();
    let mut bytes = if compressed { packed.to_vec() } else { raw.to_vec() };
    key.seal(sealer.place(ObjectKind::Pack, 0, false), &mut bytes, 0)?;
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| FormatError::TooLarge("frame"));
    let (stored, raw) = (length(&bytes)?, length(raw)?);
    Ok((FrameInfo { stored, raw, compressed, kind: BlobKind::Data, blobs: Vec::new() }, bytes))
}

fn open(timer: &Timer, frames: &[&[u8]], packed: &[Vec<u8>], sealer: &Sealer) -> Result<Rate, AppError> {
    let failed = failed("opening");
    let key = ObjectKey::from_bytes([7; 32]);
    let both = frames.iter().zip(packed);
    let stored: Vec<_> = both
        .map(|(raw, packed)| sealed(raw, packed, &key, sealer))
        .collect::<Result<_, _>>()
        .map_err(|e| failed(&e))?;
    let stored: Vec<_> = stored.iter().collect();
    timer.rate(&stored, |(info, bytes)| {
        let raw = pack_v1::open_frame(sealer, &key, 0, info, bytes.clone()).map_err(|e| failed(&e))?;
        Ok(black_box(raw).len())
    })
}

fn key(timer: &Timer, params: ScryptParams) -> Result<Duration, AppError> {
    let passphrase = Passphrase::new(b"a passphrase of nobody".to_vec());
    let stretch = || crypto::stretch(&passphrase, &[7; 32], params).map_err(|e| failed("key derivation")(&e));
    Ok(timer.time(stretch)?.1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::super::sample::noise;
    use super::super::timer::tests::Ticking;
    use super::*;
    use crate::report::Silent;

    #[test]
    fn every_stage_is_measured_and_sizes_are_of_the_same_bytes() {
        let timer = Timer { clock: Arc::new(Ticking::default()), monitor: Arc::new(Silent) };
        let bytes = [vec![b'a'; 100_000], noise(1, 1 << 20), b"abc".repeat(400_000)].concat();
        let stages = measure(&timer, &Sample { bytes, real: true }).unwrap();
        for rate in [stages.chunking, stages.hashing, stages.sealing, stages.naming, stages.opening] {
            assert!(rate.amount > 0 && rate.time > Duration::ZERO);
        }
        let [fast, default, max] = stages.compression;
        assert!(fast.raw > 0 && fast.raw == default.raw && fast.raw == max.raw);
        assert!([fast, default, max].iter().all(|level| level.packed <= level.raw && level.packed > 0));
        assert_eq!(max.compression, Compression::Max);
    }

    #[test]
    fn a_choice_that_got_to_little_is_compared_on_that() {
        let raw = [[0; 100]; 4];
        let frames: Vec<&[u8]> = raw.iter().map(<[u8; 100]>::as_slice).collect();
        let packed = |sizes: &[usize]| Compressed {
            compression: Compression::Default,
            rate: Rate::default(),
            frames: sizes.iter().map(|n| vec![0; *n]).collect(),
        };
        // The first two frames compress better than the others, of which one does not at all.
        let levels =
            levels(&frames, &[packed(&[30, 30, 90, 110]), packed(&[20, 20, 60, 110]), packed(&[10, 10])]);
        assert!(levels.iter().all(|level| level.raw == 400));
        assert_eq!(levels.map(|level| level.packed), [300, 200, 100]);
    }

    #[test]
    fn stored_bytes_follow_the_ratio() {
        let rate = Rate::default();
        let level = |raw, packed| Level { compression: Compression::Fast, rate, raw, packed };
        assert_eq!(level(4, 1).stored(1 << 40), 1 << 38);
        assert_eq!(level(0, 0).stored(7), 0);
        assert_eq!(level(1, 1).stored(u64::MAX), u64::MAX);
    }
}
