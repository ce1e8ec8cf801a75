use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::choice::{Choice, brief, full, touched_blocks};
use super::disk::SimDisk;
use super::step::{FileId, Step};
use super::tree::{Crashable, Tree};
use crate::SeededRng;

/// Everything a [`SimDisk`] was asked for, from a known beginning. A *position* is a number of
/// steps: the power goes after that many.
#[derive(Clone)]
pub struct Recording {
    base: Tree,
    steps: Vec<Step>,
}

/// How many images to try. The same plan on the same recording gives the same images (`SIM-3`).
#[derive(Clone, Copy, Debug)]
pub struct CrashPlan {
    /// For the subsets that are drawn where there are too many.
    pub seed: u64,
    /// Subsets of each kind at one position: all where there are no more, else so many.
    pub subsets_max: usize,
}

/// What was tried.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ImageCounts {
    /// Images handed out, no two alike at one position.
    pub images: u64,
    pub positions: u64,
    /// Positions where the subsets were too many to try all.
    pub sampled_positions: u64,
    /// Images by kind of [`Choice`].
    pub by_kind: BTreeMap<&'static str, u64>,
}

impl ImageCounts {
    pub fn add(&mut self, other: &Self) {
        self.images += other.images;
        self.positions += other.positions;
        self.sampled_positions += other.sampled_positions;
        for (kind, count) in &other.by_kind {
            *self.by_kind.entry(kind).or_default() += count;
        }
    }
}

impl fmt::Display for ImageCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, positions, sampled_positions, .. } = self;
        write!(f, "{images} images at {positions} positions ({sampled_positions} sampled):")?;
        self.by_kind.iter().try_for_each(|(kind, count)| write!(f, " {kind} {count}"))
    }
}

/// What one power cut leaves. Its `Display` is what [`Recording::image`] needs to build it again.
pub struct CrashImage {
    pub position: usize,
    pub choice: Choice,
    tree: Tree,
}

impl CrashImage {
    /// A fresh disk with this content. The process that opens it begins a recording of its own.
    pub fn disk(&self) -> SimDisk {
        SimDisk::from_tree(self.tree.clone())
    }
}

impl fmt::Display for CrashImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}, {:?}", self.position, self.choice)
    }
}

impl fmt::Debug for CrashImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.steps).finish()
    }
}

impl Recording {
    pub(crate) fn new(mut base: Tree, steps: Vec<Step>) -> Self {
        base.drop_unreachable();
        Self { base, steps }
    }

    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The image of one position and choice.
    pub fn image(&self, position: usize, choice: &Choice) -> CrashImage {
        let mut crash = self.start();
        self.steps.iter().take(position).for_each(|step| crash.apply(step));
        CrashImage { position, choice: choice.clone(), tree: choice.build(&crash) }
    }

    /// The disk that a power cut at `position` leaves where it left nothing unsynced.
    pub fn synced(&self, position: usize) -> SimDisk {
        self.image(position, &Choice::Synced).disk()
    }

    /// The pending steps at `position`.
    pub fn pending(&self, position: usize) -> Vec<Step> {
        let mut crash = self.start();
        self.steps.iter().take(position).for_each(|step| crash.apply(step));
        crash.pending
    }

    /// Hands every image of `plan` to `visit`: at each position the whole and the torn, and all
    /// kinds of choices where it matters most: before each sync, at the end, and at the positions
    /// in `marks` (where what must survive changes).
    pub fn visit(
        &self,
        plan: CrashPlan,
        marks: &[usize],
        mut visit: impl FnMut(CrashImage),
    ) -> ImageCounts {
        let mut counts = ImageCounts::default();
        let mut crash = self.start();
        for position in 0..=self.steps.len() {
            let next = self.steps.get(position);
            let choices = if next.is_none_or(Step::is_sync) || marks.contains(&position) {
                let rng = SeededRng::new(plan.seed ^ (position as u64).rotate_left(32));
                full(&crash, plan.subsets_max, &rng)
            } else {
                brief(&crash)
            };
            counts.positions += 1;
            counts.sampled_positions += u64::from(!choices.exhaustive);
            let touched = touched_blocks(&crash.pending);
            let mut seen = HashSet::new();
            for choice in choices.list {
                let tree = choice.build(&crash);
                if seen.insert(fingerprint(&tree, &touched)) {
                    counts.images += 1;
                    *counts.by_kind.entry(choice.kind()).or_default() += 1;
                    visit(CrashImage { position, choice, tree });
                }
            }
            if let Some(step) = next {
                crash.apply(step);
            }
        }
        counts
    }

    fn start(&self) -> Crashable {
        Crashable { durable: self.base.clone(), pending: Vec::new() }
    }
}

/// Tells apart the images of one position, which differ only in names and in `touched` blocks.
fn fingerprint(tree: &Tree, touched: &BTreeMap<FileId, Vec<usize>>) -> u64 {
    let mut hasher = DefaultHasher::new();
    tree.directories.hash(&mut hasher);
    tree.names.hash(&mut hasher);
    for (file, blocks) in touched {
        match tree.files.get(file) {
            Some(content) => content.fingerprint(blocks, &mut hasher),
            None => u64::MAX.hash(&mut hasher),
        }
    }
    hasher.finish()
}
