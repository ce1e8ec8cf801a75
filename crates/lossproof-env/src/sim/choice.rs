use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use super::content::{BLOCK_BYTES, spans};
use super::step::{FileId, Step};
use super::tree::{Crashable, Tree};
use crate::{Rng, SeededRng};

/// In what pieces unsynced writes reach the medium.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Unit {
    /// 512 bytes: what a device writes whole.
    Sector,
    /// 4 KiB: what the page cache writes whole.
    Block,
}

impl Unit {
    fn bytes(self) -> usize {
        match self {
            Self::Sector => 512,
            Self::Block => BLOCK_BYTES,
        }
    }
}

/// What a block holds that was being written when the power went.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ruin {
    Zeros,
    Noise,
    /// The first half is as it should be.
    HalfNoise,
}

/// Which of several things made it to the disk, as ones and zeros.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Kept(pub Vec<bool>);

impl Kept {
    fn holds(&self, index: usize) -> bool {
        self.0.get(index).copied().unwrap_or(false)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|kept| f.write_str(if *kept { "1" } else { "0" }))
    }
}

/// What a power cut leaves of the steps that no sync had covered, the *pending* ones.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Choice {
    /// Nothing.
    Synced,
    /// The first so many.
    Prefix(usize),
    /// All, but of the last write only these bytes.
    Torn(Range<usize>),
    /// Some of them whole, in their order: writeback out of order, over files too; renames and
    /// creations undone.
    Steps(Kept),
    /// Some pieces of the writes; growth and truncation count as one piece each. Names apart.
    Pieces { unit: Unit, pieces: Kept, names: Kept },
    /// All, but of the touched 4 KiB blocks the one with this number is ruined.
    Ruined { block: usize, ruin: Ruin },
}

impl Choice {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Prefix(_) => "prefix",
            Self::Torn(_) => "torn",
            Self::Steps(_) => "steps",
            Self::Pieces { unit: Unit::Sector, .. } => "sectors",
            Self::Pieces { unit: Unit::Block, .. } => "blocks",
            Self::Ruined { .. } => "ruined",
        }
    }

    /// The tree that this choice leaves of `crash` (`SIM-2`).
    pub(crate) fn build(&self, crash: &Crashable) -> Tree {
        let mut tree = crash.durable.clone();
        let pending = &crash.pending;
        match self {
            Self::Synced => {}
            Self::Prefix(count) => pending.iter().take(*count).for_each(|step| tree.apply(step)),
            Self::Torn(bytes) => {
                let last = last_write(pending);
                for (index, step) in pending.iter().enumerate() {
                    if Some(index) == last {
                        write_part(&mut tree, step, bytes.clone());
                    } else {
                        tree.apply(step);
                    }
                }
            }
            Self::Steps(kept) => {
                let steps = pending.iter().enumerate().filter(|(index, _)| kept.holds(*index));
                steps.for_each(|(_, step)| tree.apply(step));
            }
            Self::Pieces { unit, pieces, names } => {
                build_pieces(&mut tree, pending, *unit, pieces, names);
            }
            Self::Ruined { block, ruin } => {
                for step in pending {
                    tree.apply(step);
                }
                let touched = touched_blocks(pending);
                let all = touched
                    .iter()
                    .flat_map(|(file, blocks)| blocks.iter().map(move |index| (*file, *index)));
                if let Some((file, index)) = all.into_iter().nth(*block) {
                    ruin_block(&mut tree, file, index, *ruin);
                }
            }
        }
        tree.drop_unreachable();
        tree
    }
}

fn last_write(pending: &[Step]) -> Option<usize> {
    pending.iter().rposition(|step| matches!(step, Step::Write { .. }))
}

fn write_part(tree: &mut Tree, step: &Step, part: Range<usize>) {
    if let Step::Write { file, offset, bytes } = step
        && let Some(kept) = bytes.get(part.clone())
    {
        tree.content_mut(*file).write(kept, offset + part.start as u64);
    }
}

/// Splits a write where a unit begins; anything else is one piece.
fn pieces_of(step: &Step, unit: Unit) -> Vec<Range<usize>> {
    let Step::Write { offset, bytes, .. } = step else { return std::iter::once(0..0).collect() };
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let at = (offset + start as u64) % unit.bytes() as u64;
        let end = (start + unit.bytes() - at as usize).min(bytes.len());
        pieces.push(start..end);
        start = end;
    }
    pieces
}

fn build_pieces(tree: &mut Tree, pending: &[Step], unit: Unit, pieces: &Kept, names: &Kept) {
    let (mut piece, mut name) = (0, 0);
    for step in pending {
        if step.data_of().is_none() {
            if names.holds(name) {
                tree.apply(step);
            }
            name += 1;
            continue;
        }
        for part in pieces_of(step, unit) {
            if pieces.holds(piece) {
                match step {
                    Step::Write { .. } => write_part(tree, step, part),
                    _ => tree.apply(step),
                }
            }
            piece += 1;
        }
    }
}

fn ruin_block(tree: &mut Tree, file: FileId, index: usize, ruin: Ruin) {
    let start = index as u64 * BLOCK_BYTES as u64;
    let content = tree.content_mut(file);
    let count = content.len().saturating_sub(start).min(BLOCK_BYTES as u64) as usize;
    let rng = SeededRng::new(start ^ file.0);
    let mut bytes = vec![0; count];
    if ruin != Ruin::Zeros {
        bytes.fill_with(|| rng.next_u64() as u8);
    }
    let from = if ruin == Ruin::HalfNoise { count / 2 } else { 0 };
    content.write(&bytes[from..], start + from as u64);
}

/// The 4 KiB blocks that pending writes touch, by file.
pub(crate) fn touched_blocks(pending: &[Step]) -> BTreeMap<FileId, Vec<usize>> {
    let mut touched: BTreeMap<FileId, BTreeSet<usize>> = BTreeMap::new();
    for step in pending {
        if let Step::Write { file, offset, bytes } = step {
            let blocks = spans(*offset, bytes.len()).map(|(index, _)| index);
            touched.entry(*file).or_default().extend(blocks);
        } else if let Some(file) = step.data_of() {
            touched.entry(file).or_default();
        }
    }
    touched.into_iter().map(|(file, blocks)| (file, blocks.into_iter().collect())).collect()
}

/// The choices worth trying at one position, and whether they are all there are.
pub(crate) struct Choices {
    pub(crate) list: Vec<Choice>,
    pub(crate) exhaustive: bool,
}

/// Few choices: for a position where the next step adds to what is pending, so that all subsets
/// come up there again.
pub(crate) fn brief(crash: &Crashable) -> Choices {
    let mut list = Vec::new();
    if !crash.pending.is_empty() {
        list.push(Choice::Prefix(crash.pending.len()));
        list.extend(torn(&crash.pending));
    }
    Choices { list, exhaustive: true }
}

/// All kinds of choices, of each at most about `subsets_max`.
pub(crate) fn full(crash: &Crashable, subsets_max: usize, rng: &SeededRng) -> Choices {
    let pending = &crash.pending;
    let mut list = vec![Choice::Synced];
    list.extend((1..=pending.len()).map(Choice::Prefix));
    list.extend(torn(pending));
    let (steps, mut exhaustive) = subsets(pending.len(), subsets_max, rng);
    list.extend(steps.into_iter().map(|kept| Choice::Steps(Kept(kept))));
    let name_count = pending.iter().filter(|step| step.data_of().is_none()).count();
    for unit in [Unit::Sector, Unit::Block] {
        let data = pending.iter().filter(|step| step.data_of().is_some());
        let piece_count: usize = data.map(|step| pieces_of(step, unit).len()).sum();
        let (kept, all) = subsets(piece_count + name_count, subsets_max, rng);
        exhaustive &= all;
        list.extend(kept.into_iter().map(|mut pieces| {
            let names = Kept(pieces.split_off(piece_count));
            Choice::Pieces { unit, pieces: Kept(pieces), names }
        }));
    }
    let blocks: usize = touched_blocks(pending).values().map(Vec::len).sum();
    exhaustive &= blocks <= subsets_max;
    for block in evenly(blocks, subsets_max) {
        let ruins = [Ruin::Zeros, Ruin::Noise, Ruin::HalfNoise];
        list.extend(ruins.map(|ruin| Choice::Ruined { block, ruin }));
    }
    Choices { list, exhaustive }
}

/// Where the last write may be cut: at its ends, in its middle, at the ends of its first and last
/// sector; what is left is the front or the back.
fn torn(pending: &[Step]) -> Vec<Choice> {
    let Some(Step::Write { bytes, .. }) = last_write(pending).and_then(|last| pending.get(last))
    else {
        return Vec::new();
    };
    let length = bytes.len();
    let sector = Unit::Sector.bytes();
    let cuts = [1, 24, sector, length / 2, length.saturating_sub(sector), length.wrapping_sub(1)];
    let cuts: BTreeSet<usize> = cuts.into_iter().filter(|cut| (1..length).contains(cut)).collect();
    cuts.into_iter().flat_map(|cut| [Choice::Torn(0..cut), Choice::Torn(cut..length)]).collect()
}

/// Subsets of `count` things: all of them where they are at most `max`, else those with one
/// thing, those that lack one thing, and random ones.
fn subsets(count: usize, max: usize, rng: &SeededRng) -> (Vec<Vec<bool>>, bool) {
    if count < usize::BITS as usize - 1 && 1 << count <= max {
        let all = 0..1_usize << count;
        let subset = |mask: usize| (0..count).map(|bit| mask >> bit & 1 == 1).collect();
        return (all.map(subset).collect(), true);
    }
    let mut list = Vec::with_capacity(max);
    for index in evenly(count, max / 4) {
        list.push((0..count).map(|other| other == index).collect());
        list.push((0..count).map(|other| other != index).collect());
    }
    while list.len() < max {
        // Sparse, even and dense ones find different bugs.
        let eighths = [1, 4, 7][rng.below(3) as usize];
        list.push((0..count).map(|_| rng.below(8) < eighths).collect());
    }
    (list, false)
}

/// At most `max` indexes below `count`, first and last among them.
fn evenly(count: usize, max: usize) -> Vec<usize> {
    if count <= max {
        return (0..count).collect();
    }
    let last = max.saturating_sub(1).max(1);
    (0..max).map(|index| index * (count - 1) / last).collect()
}
