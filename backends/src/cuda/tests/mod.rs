//! Tests of the emulator, the preludes and the host's side.
//!
//! With `MIXC_TEST_GPU` set, the right programs run on this machine's GPU instead and show that its prelude means the same;
//! the wrong ones are skipped then.

mod compiles;
mod faults;
mod harness;
mod host;
mod math;
mod programs;
mod races;
mod storage;
mod transfers;
mod warps;
