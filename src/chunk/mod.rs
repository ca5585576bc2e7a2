//! Content-defined chunking by a keyed gear hash with two masks (normalised chunking: W. Xia et
//! al., "FastCDC", USENIX ATC 2016), as `format-spec/` section 14.2 states it. Pure.

/// Files up to this many bytes are never cut, and no cut falls earlier in a chunk.
pub const MIN_CHUNK: usize = 64 * 1024;
/// Where the mask becomes the looser one: about the mean length of a chunk.
pub const TARGET_CHUNK: usize = 256 * 1024;
/// No chunk is longer.
pub const MAX_CHUNK: usize = 1024 * 1024;

const STRICT: u64 = !(u64::MAX >> 20);
const LOOSE: u64 = !(u64::MAX >> 16);

/// Cuts bytes where their content says so; the table is keyed, so cut points tell a stranger
/// nothing.
#[derive(Clone)]
pub struct Chunker {
    gear: [u64; 256],
}

impl Chunker {
    /// A chunker over a keyed table.
    #[must_use]
    pub fn new(gear: [u64; 256]) -> Self {
        Self { gear }
    }

    /// Length of the first chunk of `bytes`, or `None` when more bytes are needed to know.
    /// With `last`, `bytes` runs to the end of the file and the answer is never `None` unless
    /// `bytes` is empty.
    #[must_use]
    pub fn cut(&self, bytes: &[u8], last: bool) -> Option<usize> {
        let end = bytes.len().min(MAX_CHUNK);
        let mut hash = 0u64;
        let strict_end = end.min(TARGET_CHUNK);
        for (mask, from, to) in [(STRICT, MIN_CHUNK, strict_end), (LOOSE, TARGET_CHUNK, end)] {
            if from >= to {
                continue;
            }
            for (at, &byte) in bytes[from..to].iter().enumerate() {
                hash = (hash << 1).wrapping_add(self.gear[usize::from(byte)]);
                if hash & mask == 0 {
                    return Some(from + at + 1);
                }
            }
        }
        if end == MAX_CHUNK || (last && end > 0) { Some(end) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunker() -> Chunker {
        let mut state = 1u64;
        let mut gear = [0; 256];
        for entry in &mut gear {
            *entry = next(&mut state);
        }
        Chunker::new(gear)
    }

    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(n: usize) -> Vec<u8> {
        let mut state = 2;
        (0..n / 8 + 1).flat_map(|_| next(&mut state).to_le_bytes()).take(n).collect()
    }

    fn chunks(mut bytes: &[u8]) -> Vec<&[u8]> {
        let chunker = chunker();
        let mut out = Vec::new();
        while let Some(n) = chunker.cut(bytes, true) {
            out.push(&bytes[..n]);
            bytes = &bytes[n..];
        }
        out
    }

    #[test]
    fn chunks_cover_everything_within_their_bounds() {
        let data = bytes(20_000_000);
        let parts = chunks(&data);
        assert_eq!(parts.concat(), data);
        assert!(parts[..parts.len() - 1].iter().all(|c| (MIN_CHUNK..=MAX_CHUNK).contains(&c.len())));
        let mean = data.len() / parts.len();
        assert!((200_000..400_000).contains(&mean), "mean {mean}");
    }

    #[test]
    fn an_insertion_changes_only_chunks_near_it() {
        let data = bytes(10_000_000);
        let mut changed = data.clone();
        changed.splice(5_000_000..5_000_000, *b"inserted");
        let before: std::collections::HashSet<_> = chunks(&data).into_iter().collect();
        let fresh = chunks(&changed).into_iter().filter(|c| !before.contains(c)).count();
        assert!(fresh <= 3, "{fresh} chunks differ");
    }

    #[test]
    fn the_answer_does_not_depend_on_how_much_is_in_view() {
        let data = bytes(3_000_000);
        let whole = chunker().cut(&data, true);
        for view in [MAX_CHUNK, MAX_CHUNK + 1, 2_000_000] {
            assert_eq!(chunker().cut(&data[..view], false), whole);
        }
        assert_eq!(chunker().cut(&data[..MIN_CHUNK], false), None);
        assert_eq!(chunker().cut(&[], true), None);
        assert_eq!(chunker().cut(&data[..10], true), Some(10));
    }
}
