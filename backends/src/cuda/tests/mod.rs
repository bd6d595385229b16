//! Tests of the emulator, the preludes and the host's side.

mod compiles;
mod first;
