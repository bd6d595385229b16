//! The only place that calls the compiler: a model directory and a batch in, hidden states out.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use mixc::{Blob, Error, Model, Request, Target};

use crate::batch::Batch;

/// What the encoder gave for a batch.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The last hidden state, `[rows, tokens, features]` row by row.
    pub hidden: Vec<f32>,
    /// Time to import and compile the model, its weights packed.
    pub compile: Duration,
    /// Time of the run.
    pub run: Duration,
}

/// Imports the model in `directory`, compiles it for `target` and runs it on `batch`; without `threads` on all that the
/// machine has.
pub fn embed(directory: &Path, batch: &Batch, target: &str, threads: Option<NonZeroUsize>) -> Result<Encoded, Error> {
    let start = Instant::now();
    let text = mixc::import::hf(directory, directory)?;
    let model = Model::from_text(&text, "minilm", directory, &[])?;
    let runner = model.compile(&Target::parse(target)?, &Request::default())?;
    let compile = start.elapsed();
    let shape = [batch.rows, batch.tokens];
    let inputs = [&batch.input_ids, &batch.attention_mask, &batch.token_type_ids].map(|x| Blob::from_i64(&shape, x));
    let start = Instant::now();
    let results = runner.run(&inputs, threads.map_or(0, NonZeroUsize::get))?;
    let run = start.elapsed();
    let hidden = results.first().map(Blob::to_f64).unwrap_or_default();
    Ok(Encoded { hidden: hidden.into_iter().map(|x| x as f32).collect(), compile, run })
}
