//! Where the threads of a block must wait for one another.
//!
//! Every step says which memory it reads and writes, and which thread touches which element. A barrier is needed before
//! a step that touches what another thread has written, or writes what another thread has read, since the last barrier.

use super::storage::{Level, Place};
use std::collections::BTreeSet;

/// Memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Region {
    /// Bytes of a place.
    Tile(Level, usize, usize),
    /// A tensor that the program writes: read back by the point that has written it.
    Tensor(usize),
}

/// Which thread touches which element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Element `[r, c]` belongs to thread `(r * columns + c) mod threads`.
    Element {
        /// Most columns.
        columns: usize,
        /// Bytes of an element.
        bytes: usize,
    },
    /// Not said.
    Any,
}

/// A use of memory by a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// What.
    pub region: Region,
    /// By whom.
    pub owner: Owner,
    /// Whether it is written.
    pub writes: bool,
}

/// The memory of a place.
pub fn tile_region(p: Place) -> Region {
    Region::Tile(p.level, p.offset, p.offset + p.bytes)
}

impl Access {
    fn conflicts(&self, later: &Access) -> bool {
        if !self.writes && !later.writes {
            return false;
        }
        match (self.region, later.region) {
            (Region::Tile(a, from, to), Region::Tile(b, other_from, other_to)) => {
                let overlap = a == b && from < other_to && other_from < to;
                let same_threads = from == other_from && self.owner == later.owner && self.owner != Owner::Any;
                overlap && !same_threads
            }
            // Every element of an output is stored once: stores do not meet.
            (Region::Tensor(a), Region::Tensor(b)) => a == b && self.writes != later.writes,
            _ => false,
        }
    }
}

/// What was touched since the last barrier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    accesses: BTreeSet<Access>,
}

impl Pending {
    /// Takes a step's accesses in; whether a barrier must stand before it.
    pub fn step(&mut self, accesses: &[Access]) -> bool {
        let wait = accesses.iter().any(|later| self.accesses.iter().any(|earlier| earlier.conflicts(later)));
        if wait {
            self.accesses.clear();
        }
        self.accesses.extend(accesses);
        wait
    }

    /// Takes in what another way to the same place has touched; whether that is news.
    pub fn join(&mut self, other: &Pending) -> bool {
        let before = self.accesses.len();
        self.accesses.extend(&other.accesses);
        self.accesses.len() > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(from: usize, owner: Owner, writes: bool) -> Access {
        Access { region: Region::Tile(Level::Shared, from, from + 64), owner, writes }
    }

    #[test]
    fn threads_wait_for_what_others_touched_and_for_nothing_else() {
        let mine = Owner::Element { columns: 8, bytes: 4 };
        let other = Owner::Element { columns: 4, bytes: 4 };
        let mut pending = Pending::default();
        assert!(!pending.step(&[access(0, mine, true)]));
        assert!(!pending.step(&[access(0, mine, false)]), "a thread reads what it has written itself");
        assert!(!pending.step(&[access(64, Owner::Any, true)]), "another place");
        assert!(pending.step(&[access(0, other, false)]), "another thread's element");
        assert!(!pending.step(&[access(0, Owner::Any, false)]), "reads do not meet");
        assert!(pending.step(&[access(32, mine, true)]), "written over while it may still be read");
    }
}
