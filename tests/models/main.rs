//! Whole models from Hugging Face directories: their results against goldens, and directories that are not as they
//! should be.
//!
//! Goldens of larger models lie outside the repository; where they or the pretrained weights are not found, their tests
//! say so and pass. Small random encoders are made here and compared with the reference interpreter.

mod damaged;
mod encoder;
mod golden;
mod variants;
