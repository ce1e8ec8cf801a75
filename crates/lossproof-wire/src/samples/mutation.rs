//! Ways in which bytes that were valid are broken, all of them decided by a seed.

/// Counts and lengths as attackers like them, in all the widths of the protocol.
const NASTY: [&[u8]; 12] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0x7f, 0xff],
    &[0x80, 0],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0x80, 0x80, 0x80, 0x80, 0x00],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0],
    &[1],
];
/// Bytes that one mutation adds at most.
const EXTRA_BYTES_MAX: usize = 20;
/// Mutations of one message at most.
const MUTATIONS_MAX: usize = 3;

/// SplitMix64: the same numbers for the same seed, on any machine.
#[derive(Debug, Clone)]
pub struct Seeded(pub u64);

impl Seeded {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below the bound; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound.max(1) as u64) as usize
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.draw() as u8).collect()
    }
}

/// One to three things done to the bytes: cut, flipped, another count, a broken tag, something
/// added, removed or there twice.
pub fn mutate(valid: &[u8], random: &mut Seeded) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..=random.below(MUTATIONS_MAX) {
        let at = random.below(bytes.len() + 1);
        let end = at + random.below(bytes.len() + 1 - at);
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 => {
                let nasty = NASTY.get(random.below(NASTY.len())).copied().unwrap_or_default();
                let end = (at + nasty.len()).min(bytes.len());
                bytes.splice(at..end, nasty.iter().copied());
            }
            3 => {
                let extra_count = random.below(EXTRA_BYTES_MAX);
                let extra = random.bytes(extra_count);
                bytes.splice(at..at, extra);
            }
            4 => {
                bytes.drain(at..end);
            }
            5 => {
                let copied = bytes.get(at..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, copied);
            }
            6 => {
                let mut counts = counts_at(&bytes, at);
                bytes = counts.swap_remove(random.below(counts.len()));
            }
            _ => {
                let mut tags = tags_at(&bytes, at);
                bytes = tags.swap_remove(random.below(tags.len()));
            }
        }
    }
    bytes
}

/// The bytes with a count or length written at each place, whatever stands there: none, exactly as
/// many as bytes are left, one more, negative ones and the largest, in each width of the protocol.
/// So each count of a message is met, and each with all of these.
pub fn broken_counts(valid: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..valid.len()).flat_map(|at| counts_at(valid, at))
}

/// The bytes with tagged fields written at each place where there may be an empty list of them:
/// with a size that is too small or too large, a tag there twice, more fields than there are.
pub fn broken_tags(valid: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let places = valid.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
    places.flat_map(|at| tags_at(valid, at))
}

fn counts_at(valid: &[u8], at: usize) -> Vec<Vec<u8>> {
    let left = |width: usize| valid.len().saturating_sub(at + width);
    let mut mutants = Vec::new();
    let remaining = left(4) as i32;
    for count in [0, remaining, remaining.saturating_add(1), -1, -2, i32::MIN, i32::MAX] {
        mutants.push(replaced(valid, at, 4, &count.to_be_bytes()));
    }
    let remaining = i16::try_from(left(2)).unwrap_or(i16::MAX);
    for count in [0, remaining, remaining.saturating_add(1), -1, -2, i16::MIN, i16::MAX] {
        mutants.push(replaced(valid, at, 2, &count.to_be_bytes()));
    }
    // Compact form is one more, and 0 for null.
    let remaining = left(1) as u32;
    for count in [0, 1, remaining + 1, remaining + 2, i32::MAX as u32, 1 << 31, u32::MAX] {
        mutants.push(replaced(valid, at, 1, &varint(count)));
    }
    mutants
}

fn tags_at(valid: &[u8], at: usize) -> Vec<Vec<u8>> {
    let mut lists = vec![varint(u32::MAX), vec![1], vec![1, 0], vec![2, 0, 0, 0, 0]];
    for tag in 0..3_u8 {
        lists.push(vec![1, tag, 0]);
        lists.push(vec![1, tag, 1, 0xff]);
        lists.push(vec![1, tag, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        lists.push([&[1, tag][..], &varint(i32::MAX as u32)].concat());
    }
    lists.iter().map(|list| replaced(valid, at, 1, list)).collect()
}

fn replaced(valid: &[u8], at: usize, width: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    let end = (at + width).min(bytes.len());
    bytes.splice(at..end, with.iter().copied());
    bytes
}

/// An unsigned number as it stands in compact counts and lengths.
pub fn varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
