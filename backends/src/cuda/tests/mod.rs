//! Tests of the emulator, the preludes and the host's side.

mod compiles;
mod faults;
mod harness;
mod host;
mod math;
mod programs;
mod storage;
mod transfers;
mod warps;
