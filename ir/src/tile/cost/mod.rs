//! What a tile program costs at given dims, by walking it: operations, bytes at every size of memory, time on a machine.
//!
//! Every step is a sum of products of counts; counts, loop bounds, conditions and guards are evaluated at the grid
//! points and turns where they differ: at all of them while these are few, else at evenly spaced ones with the last
//! (where blocks are ragged) apart, so that a causal loop costs what it runs. What is data (bounds or conditions read
//! from tensors) counts as in the worst case.
//!
//! Bytes past a memory of some size follow the footprint model: what an access touches again in the next turn of an
//! axis is still there if everything touched within one turn fits. It knows no associativity, no prefetching and no
//! reuse between programs.

mod footprint;
mod joined;
mod passing;
mod terms;
mod walk;

use super::{TileProgram, TileType};
use crate::dim::{DimError, DimValues};
use crate::dtype::DType;
use crate::expr::{SlowId, Var};
use crate::machine::Machine;
use std::collections::BTreeMap;

/// Arithmetic by class.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Flops {
    /// Operations of multiply-adds, two each: dots, recurrences, solves.
    pub fma: f64,
    /// Exponentials and what costs about as much: logarithms, trigonometry, divisions, roots.
    pub special: f64,
    /// Other elementwise operations on reals, comparisons, selections, reductions.
    pub other: f64,
}

/// A loop around accesses: a grid axis or a block loop.
#[derive(Clone, Debug, PartialEq)]
pub struct Turns {
    /// Its variable.
    pub var: Var,
    /// Turns each time it is entered, on average.
    pub trips: f64,
    /// Bytes of tensors touched within one turn.
    pub touched: f64,
}

/// A place in the program that reads or writes a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// The tensor.
    pub tensor: SlowId,
    /// Whether it is written.
    pub stored: bool,
    /// Bytes over the whole run, each element once a tile operation.
    pub bytes: f64,
    /// The loops around it, outermost first: index into [`Cost::turns`], and whether the elements depend on it.
    pub around: Vec<(usize, bool)>,
}

/// The cost of one run of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Grid points.
    pub points: f64,
    /// Tile operations and stores that run.
    pub steps: f64,
    /// Arithmetic.
    pub flops: Flops,
    /// Elements of tensors that expressions read and sums that dots read and write, each with an instruction's slot: a
    /// vector a cycle, as for arithmetic.
    pub loads: f64,
    /// Elements that are computed one by one, quotients in them a share each.
    pub scalar: f64,
    /// Loops: the grid axes, then block loops in the order of the text.
    pub turns: Vec<Turns>,
    /// Reads and writes of tensors.
    pub accesses: Vec<Access>,
    /// Bytes of each tensor of the program that the run touches at least: the whole, or less where less is moved.
    pub distinct: Vec<f64>,
    /// Bytes of tiles that tile operations read and write.
    pub tile_bytes: f64,
    /// Most bytes of tiles that a grid point holds at once.
    pub footprint: u64,
    /// Number of grid axes among the loops.
    axes: usize,
    /// Whether the factors of all dots come from 16-bit tensors.
    bf16: bool,
}

/// The cost of `program` at `dims`.
///
/// # Errors
///
/// When a dimension has no value or leaves the 64-bit range.
pub fn cost(program: &TileProgram, dims: &DimValues) -> Result<Cost, DimError> {
    let concrete = program.at_dims(dims)?;
    let mut sizes = Vec::with_capacity(program.tensors.len());
    for slow in &program.tensors {
        let mut bytes = slow.dtype.bytes() as f64;
        for d in &slow.shape {
            bytes *= d.eval(dims)?.max(0) as f64;
        }
        sizes.push(bytes);
    }
    let nest = terms::nest(&concrete);
    let totals = walk::walk(&concrete, &nest);
    let mut cost = Cost {
        points: totals.turns.iter().take(concrete.grid.len()).map(|t| t.trips()).product(),
        steps: totals.steps,
        flops: totals.flops,
        loads: totals.loads,
        scalar: totals.scalar,
        turns: totals.turns.iter().map(|t| Turns { var: t.var, trips: t.trips(), touched: 0.0 }).collect(),
        accesses: nest
            .accesses
            .iter()
            .zip(&totals.bytes)
            .map(|(a, bytes)| Access { tensor: a.tensor, stored: a.stored, bytes: *bytes, around: a.around.clone() })
            .collect(),
        distinct: Vec::new(),
        tile_bytes: totals.tile_bytes,
        footprint: footprint::footprint(&concrete),
        axes: concrete.grid.len(),
        bf16: !program.tensors.iter().any(|t| t.dtype == DType::F32 || t.dtype == DType::F64)
            && program.tiles.iter().all(|t| t.ty != TileType::F64),
    };
    cost.distinct = sizes
        .iter()
        .enumerate()
        .map(|(k, &size)| {
            let moved = |stored| {
                let of = cost.accesses.iter().filter(|a| a.tensor.0 as usize == k && a.stored == stored);
                of.map(|a| a.bytes).sum::<f64>()
            };
            size.min(moved(false).max(moved(true)))
        })
        .collect();
    for k in 0..cost.turns.len() {
        cost.turns[k].touched = cost.touched(k, &sizes);
    }
    Ok(cost)
}

impl Cost {
    /// Bytes that are touched within one turn of loop `k`: by each access what the loops inside it make differ, at most
    /// its tensor.
    fn touched(&self, k: usize, sizes: &[f64]) -> f64 {
        let mut by_tensor: BTreeMap<SlowId, f64> = BTreeMap::new();
        for a in &self.accesses {
            let Some(place) = a.around.iter().position(|(n, _)| *n == k) else { continue };
            let executions: f64 = a.around.iter().map(|(n, _)| self.turns[*n].trips).product();
            if executions == 0.0 {
                continue;
            }
            let inside = a.around[place + 1..].iter().filter(|(_, differs)| *differs);
            let bytes = a.bytes / executions * inside.map(|(n, _)| self.turns[*n].trips).product::<f64>();
            // Two places that read one tensor mostly read the same part of it.
            let most = by_tensor.entry(a.tensor).or_default();
            *most = most.max(bytes.min(sizes.get(a.tensor.0 as usize).copied().unwrap_or(bytes)));
        }
        by_tensor.values().sum()
    }

    /// Bytes moved by all tile operations and stores together.
    pub fn moved(&self) -> f64 {
        self.accesses.iter().map(|a| a.bytes).sum()
    }

    /// The lower bound of the bytes moved: every tensor once.
    pub fn compulsory(&self) -> f64 {
        self.distinct.iter().sum()
    }

    /// Bytes moved past a memory of `size` bytes.
    pub fn past(&self, size: u64) -> f64 {
        let fits = |n: usize| self.turns[n].touched <= size as f64;
        // One grid point fits: its second and later passes over a tensor find it here.
        let one_pass = if self.axes > 0 { fits(self.axes - 1) } else { self.compulsory() <= size as f64 };
        let mut by_tensor: BTreeMap<(SlowId, bool), f64> = BTreeMap::new();
        for a in &self.accesses {
            let again = a.around.iter().filter(|(n, differs)| !differs && fits(*n));
            let bytes = a.bytes / again.map(|(n, _)| self.turns[*n].trips.max(1.0)).product::<f64>();
            let sum = by_tensor.entry((a.tensor, a.stored)).or_default();
            *sum = if one_pass && !a.stored { sum.max(bytes) } else { *sum + bytes };
        }
        let floor = |s: &SlowId| self.distinct.get(s.0 as usize).copied().unwrap_or(0.0);
        by_tensor.iter().map(|((s, _), bytes)| bytes.max(floor(s))).sum()
    }

    /// Seconds of arithmetic on `threads` threads of `machine`, each taking whole grid points.
    pub fn compute_seconds(&self, machine: &Machine, threads: usize) -> f64 {
        let threads = self.busy(threads);
        let fma = if self.bf16 { machine.fma_bf16 } else { machine.fma };
        let flops = self.flops.fma / fma + self.flops.special / machine.special + self.flops.other / machine.other;
        let elements = self.loads / machine.other + self.scalar / machine.scalar;
        (flops + elements + self.steps * machine.step) / threads
    }

    /// Threads that have work all the time: of 3 points on 2 threads one and a half.
    fn busy(&self, threads: usize) -> f64 {
        let threads = threads.max(1) as f64;
        if self.points <= 1.0 { 1.0 } else { self.points / (self.points / threads).ceil() }
    }

    /// Seconds that each level of `machine` needs for the bytes that come from it, fastest level first: tiles from the
    /// level that holds those of a grid point, tensors from where the smaller levels do not hold them.
    pub fn memory_seconds(&self, machine: &Machine, threads: usize) -> Vec<f64> {
        let busy = self.busy(threads);
        let mut smaller = None;
        let mut seconds = Vec::with_capacity(machine.levels.len());
        for level in &machine.levels {
            let bytes = smaller.map_or_else(|| self.moved(), |size| self.past(size));
            let tiles = match machine.level_for(self.footprint) {
                Some(home) if home == level => self.tile_bytes,
                _ => 0.0,
            };
            let bandwidth = (level.bandwidth * busy).min(level.shared_bandwidth.max(level.bandwidth));
            seconds.push((bytes + tiles) / bandwidth);
            smaller = Some(level.bytes);
        }
        seconds
    }

    /// The roofline: the longer of arithmetic and the slowest memory, and the start of the program. A bound that good
    /// code comes near, not a prediction of bad code.
    pub fn seconds(&self, machine: &Machine, threads: usize) -> f64 {
        let memory = self.memory_seconds(machine, threads).into_iter().fold(0.0, f64::max);
        let alone = threads <= 1 || (self.points <= 1.0 && machine.fewest_threads <= 1);
        let launch = if alone { 0.0 } else { machine.launch };
        self.compute_seconds(machine, threads).max(memory) + launch
    }

    /// The mean of the fewest and of all threads of `machine`: the caller decides how many there are, and results must
    /// not depend on it.
    pub fn typical_seconds(&self, machine: &Machine) -> f64 {
        self.seconds(machine, machine.fewest_threads).midpoint(self.seconds(machine, machine.threads))
    }
}

#[cfg(test)]
mod tests;
