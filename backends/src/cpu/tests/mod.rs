//! Generated code against the interpreter of tile programs, in memory between guard pages.

mod elements;
mod guarded;
mod harness;
mod object;
mod programs;
mod random;
mod weights;
