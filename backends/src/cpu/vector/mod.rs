//! The fast path: whole tile operations as vector kernels.
//!
//! Every f32 tile has a *lane axis*: the axis whose elements lie side by side in fast memory, in rows padded to whole
//! vectors, so that kernels over fast memory never need a tail. [`lanes`] chooses the axes by cost, [`schedule`] groups
//! neighbouring statements over one iteration space into one kernel each, [`group`] and [`product`] build the kernels.
//! Whatever does not fit is left to the scalar statements, which read and write every layout.

mod affine;
mod call;
mod group;
mod inner;
mod lanes;
mod lists;
mod outputs;
mod prepare;
mod product;
mod report;
mod schedule;
mod simplify;
mod solve;
mod steps;
mod transpose;
mod turn;
mod turns;
mod values;
mod versions;
mod write;

pub use call::{Argument, Call, FloatArgument};
pub use inner::InnerProduct;
pub use lanes::{Forms, TileForm};
pub use product::{Product, UNROLL, slot};
pub use report::{WorkReport, report};
pub use schedule::{Item, ItemWork, schedule};
pub use solve::Solve;
pub use transpose::Transpose;
pub use turn::prepare;
pub use versions::versions;

/// Eight-byte words that a kernel's arguments take at most, and its real arguments as well.
pub const ARGUMENTS: usize = 64;
