//! Versions of a program by the lengths of a call.
//!
//! Lane axes are chosen for full tiles. Where a length may also be one or a few (a token against a long cache), its tiles
//! would leave most lanes empty then, while another axis could fill them: such calls get code of their own.

use super::lanes::gain;
use super::simplify::simplify;
use mixc_ir::dim::{DimBounds, Symbol};
use mixc_ir::program::DimItem;
use mixc_ir::tile::TileProgram;

/// A program for calls at which a dim is short.
#[derive(Clone, Debug)]
pub struct Version {
    /// The dim.
    pub symbol: Symbol,
    /// Its values, inclusive.
    pub values: (i64, i64),
    /// The program at these.
    pub program: TileProgram,
}

/// Costs of lane axes are rough: a version is worth its code where they promise more than this.
const WORTH: f64 = 1.25;

/// The versions of a program beside itself, in the order in which they are asked for. Programs without a loop that
/// goes on at short lengths have none: calls are short then anyway.
pub fn versions(program: &TileProgram, dims: &[DimItem], width: usize) -> Vec<Version> {
    let bounds: DimBounds = dims.iter().map(|d| (d.name.clone(), (d.low, d.high))).collect();
    // One, and up to half a vector: a whole one loses no lanes.
    let few = width as i64 / 2;
    let mut all = Vec::new();
    for d in dims {
        for (low, high) in [(1, 1), (d.low, few)] {
            if low < d.low || high >= d.high {
                continue;
            }
            let mut here = bounds.clone();
            here.insert(d.name.clone(), (low, high));
            let Some(shorter) = program.narrowed(&here) else { continue };
            if shorter.repeats(&here) && gain(&simplify(program), &simplify(&shorter), width) > WORTH {
                all.push(Version { symbol: d.name.clone(), values: (low, high), program: shorter });
            }
        }
    }
    all
}
