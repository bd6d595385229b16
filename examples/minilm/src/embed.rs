//! The only place that calls the compiler: a model directory and a batch in, hidden states out.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use crate::batch::Batch;

/// What the encoder gave for a batch.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The last hidden state, `[rows, tokens, features]` row by row.
    pub hidden: Vec<f32>,
    /// Time to import and compile the model.
    pub compile: Duration,
    /// Time of the run.
    pub run: Duration,
}

/// Imports the model in `directory`, compiles it for `target` and runs it on `batch`.
///
/// An error in words: this version of the compiler imports and runs no models yet.
pub fn embed(
    directory: &Path,
    _batch: &Batch,
    target: &str,
    _threads: Option<NonZeroUsize>,
) -> Result<Encoded, String> {
    Err(format!("this version of mixc cannot import {} and compile it for {target} yet", directory.display()))
}
