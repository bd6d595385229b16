//! Transforms by one factoring, and what is computed through them: a product of stages with small blocks, each either a
//! few additions a number (Fourier) or a small matrix (Monarch).

mod butterfly;
pub mod exact;
pub mod fft_convolution;
pub mod plan;
mod stages;

pub use stages::{Results, Tokens, Transform};
