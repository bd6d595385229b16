//! Sentence embeddings with MiniLM-L6: which of these sentences mean alike?
//!
//! `minilm "A man is eating food." "Someone has lunch."` fetches the model once, compiles it and prints the cosine
//! similarity of every pair. It promises the same similarities as the model's published implementation to f32 rounding.
//! It lacks a server, a store of embeddings and other models; it is an example of how to use mixc.

mod batch;
mod embed;
mod fetch;
mod pooling;
mod report;
mod tokenizer;

use std::error::Error;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use report::{Report, Sentence};
use tokenizer::Tokenizer;

/// Rows of the model's table of positions: the most tokens that it reads at once.
const LONGEST_SENTENCE: usize = 512;

/// Prints how alike sentences are, by their MiniLM-L6 embeddings compiled with mixc.
#[derive(Debug, Parser)]
#[command(name = "minilm", version)]
struct Arguments {
    /// The sentences; each is cut to the 512 tokens that the model reads.
    #[arg(required = true)]
    sentences: Vec<String>,
    /// A directory with config.json, vocab.txt and model.safetensors, instead of the downloaded model.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// What to compile for, as in `mixc compile --target`.
    #[arg(long, default_value = "native")]
    target: String,
    /// Threads to run on [default: mixc's own].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A table.
    Text,
    /// JSON.
    Json,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minilm: {error}");
            // The compiler's errors have exit codes of their own, the same as those of the `mixc` command.
            error.downcast_ref::<mixc::Error>().map_or(ExitCode::FAILURE, |error| ExitCode::from(error.exit_code()))
        }
    }
}

/// From arguments to printed result.
fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let directory = match &arguments.model {
        Some(directory) => directory.clone(),
        None => fetch::model_directory(&fetch::MINILM, &fetch::cache_directory(|name| std::env::var_os(name))?)?,
    };
    let tokenizer = Tokenizer::load(&directory.join("vocab.txt"))?;
    let ids: Vec<_> = arguments.sentences.iter().map(|text| tokenizer.encode(text, LONGEST_SENTENCE)).collect();
    let batch = batch::pad(&ids, tokenizer.padding());
    let encoded = embed::embed(&directory, &batch, &arguments.target, arguments.threads)?;
    let embeddings = pooling::embeddings(&encoded.hidden, &batch.attention_mask, batch.rows)?;
    let sentence = |(text, ids): (&String, &Vec<i64>)| Sentence { text: text.clone(), tokens: ids.len() };
    let report = Report {
        sentences: arguments.sentences.iter().zip(&ids).map(sentence).collect(),
        padded_tokens: batch.tokens,
        target: arguments.target.clone(),
        compile_ms: report::milliseconds(encoded.compile),
        embed_ms: report::milliseconds(encoded.run),
        similarities: pooling::similarities(&embeddings),
    };
    let text = match arguments.format {
        Format::Text => report.table(),
        Format::Json => report.json()?,
    };
    match io::stdout().write_all(text.as_bytes()) {
        // whoever reads the result may stop early, as `head` does
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
