//! Mutational fuzzing of everything that reads foreign input: parser, printer, verifier, weight files.
//!
//!     cargo run -p mixc-ir --example fuzz -- --seconds 600 [--seed N] [--first K] [--corpus PATH]... [--replay FILE]
//!
//! Every input is a function of the seed and its number, so a run can be repeated and gone on with. The corpus is the
//! examples of all operations and of all diagnostics, and the `.ir` and `.safetensors` files of `--corpus`. It stops at
//! the first input that panics, takes a second, or does not survive printing and parsing, and writes it to
//! `fuzz-failure.txt` or `fuzz-failure.bin`.

mod mutate;

use mixc_ir::diag::Diagnostic;
use mixc_ir::verify::codes::{CODES, Example};
use mixc_ir::weights::Weights;
use mixc_ir::{ops, text, verify};
use mutate::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// An input must be done within this.
const PATIENCE: Duration = Duration::from_secs(1);
/// Stack of the thread that reads inputs, half of what a thread has by default: recursion must be shallow.
const STACK: usize = 1 << 20;

struct Options {
    seconds: u64,
    seed: u64,
    first: u64,
    corpus: Vec<PathBuf>,
    replay: Option<PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { seconds: 10, seed: 1, first: 0, corpus: Vec::new(), replay: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|e| format!("{arg} {value}: {e}"));
        match arg.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--first" => options.first = number()?,
            "--corpus" => options.corpus.push(value.into()),
            "--replay" => options.replay = Some(value.into()),
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let run = || -> Result<(), String> {
        let options = options()?;
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || match &options.replay {
            Some(path) => replay(path),
            None => fuzz(&options),
        });
        let thread = thread.map_err(|e| e.to_string())?;
        thread.join().map_err(|_| "the fuzzer itself panicked".to_string())?
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Reads one input and says what became of it.
fn replay(path: &Path) -> Result<(), String> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| format!("{name}: {e}"))?;
    let (found, read) = match path.extension().and_then(|e| e.to_str()) {
        Some("bin" | "safetensors") => (Weights::read(&[(&name, &bytes)]).err(), read_weights(&bytes)),
        _ => (verify::check_bytes(&bytes).err(), read_text(&bytes)),
    };
    match found {
        None => println!("{name}: accepted"),
        Some(found) => print!("{}", text::report::brief(&name, &String::from_utf8_lossy(&bytes), &found)),
    }
    read
}

fn fuzz(options: &Options) -> Result<(), String> {
    let (texts, weights) = corpus(&options.corpus)?;
    std::panic::set_hook(Box::new(|_| {}));
    let started = Instant::now();
    let mut shown = started;
    let mut slowest = Duration::ZERO;
    let mut accepted = [0u64; 2];
    let mut number = options.first;
    while started.elapsed().as_secs() < options.seconds {
        let mut random = Random(options.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ number);
        let is_text = random.below(4) > 0;
        let bytes = if is_text { mutate::text(&mut random, &texts) } else { mutate::weights(&mut random, &weights) };
        let read = if is_text { accept_text } else { accept_weights };
        let mut took = Duration::MAX;
        // A busy machine is no fault of the input: the fastest of three attempts counts.
        for _ in 0..3 {
            let began = Instant::now();
            match catch_unwind(AssertUnwindSafe(|| read(&bytes))) {
                Ok(Ok(ok)) => accepted[usize::from(is_text)] += u64::from(ok && took == Duration::MAX),
                Ok(Err(message)) => return Err(failure(number, is_text, &bytes, &message)),
                Err(_) => return Err(failure(number, is_text, &bytes, "it panics")),
            }
            took = took.min(began.elapsed());
            if took < PATIENCE {
                break;
            }
        }
        if took >= PATIENCE {
            return Err(failure(number, is_text, &bytes, &format!("it takes {took:?}")));
        }
        slowest = slowest.max(took);
        number += 1;
        if shown.elapsed().as_secs() >= 10 {
            shown = Instant::now();
            eprintln!("{number} inputs, slowest {slowest:?}");
        }
    }
    println!(
        "{} inputs in {} s (seed {}): no failure; {} texts and {} weight files were right; slowest {slowest:?}",
        number - options.first,
        started.elapsed().as_secs(),
        options.seed,
        accepted[1],
        accepted[0],
    );
    Ok(())
}

fn failure(number: u64, is_text: bool, bytes: &[u8], message: &str) -> String {
    let path = if is_text { "fuzz-failure.txt" } else { "fuzz-failure.bin" };
    let saved = match std::fs::write(path, bytes) {
        Ok(()) => format!("saved as {path}"),
        Err(e) => format!("not saved: {e}"),
    };
    format!("input {number}: {message} ({saved})")
}

fn accept_text(bytes: &[u8]) -> Result<bool, String> {
    read_text(bytes).map(|()| verify::check_bytes(bytes).is_ok())
}

fn accept_weights(bytes: &[u8]) -> Result<bool, String> {
    read_weights(bytes).map(|()| Weights::read(&[("w", bytes)]).is_ok())
}

/// Parses, prints, verifies; what is accepted must survive a round trip, what is not must say why, within the text.
fn read_text(bytes: &[u8]) -> Result<(), String> {
    let Ok(source) = text::source(bytes) else { return Ok(()) };
    let checked = verify::check(source);
    if let Ok(printed) = text::format(source) {
        let again = text::format(&printed).map_err(|e| format!("the canonical text does not parse: {e:?}"))?;
        if again != printed {
            return Err("the canonical text has another canonical text".into());
        }
        if verify::check(&printed).is_ok() != checked.is_ok() {
            return Err("the canonical text verifies differently".into());
        }
    }
    match checked {
        Ok(program) => {
            let printed = text::print_program(&program);
            let again = verify::check(&printed).map_err(|e| format!("the printed program does not verify: {e:?}"))?;
            if text::print_program(&again) != printed {
                return Err("the printed program is another one".into());
            }
        }
        Err(found) => {
            if found.is_empty() {
                return Err("rejected without a reason".into());
            }
            let inside = |d: &Diagnostic| d.span.is_none_or(|s| s.start <= s.end && s.end as usize <= source.len() + 1);
            if !found.iter().all(inside) {
                return Err("a place outside the text".into());
            }
            if !found.is_sorted_by_key(|d| d.span) {
                return Err("diagnostics out of order".into());
            }
            let _ = text::report::render("f", source, &found, true);
            let _ = text::report::json(&[("f", source, &found)]);
        }
    }
    Ok(())
}

/// Reads a weight file; what is accepted must account for every byte, and be accepted by the format's own library.
fn read_weights(bytes: &[u8]) -> Result<(), String> {
    let Ok(weights) = Weights::read(&[("w", bytes)]) else { return Ok(()) };
    let length = bytes.first_chunk::<8>().map_or(0, |n| u64::from_le_bytes(*n)) as usize;
    let total: usize = weights.iter().map(|(_, t)| t.bytes.len()).sum();
    if 8 + length + total != bytes.len() {
        return Err("bytes are left over".into());
    }
    safetensors::SafeTensors::deserialize(bytes).map_err(|e| format!("accepted, though {e}"))?;
    Ok(())
}

type Corpus = (Vec<String>, Vec<Vec<u8>>);

fn corpus(paths: &[PathBuf]) -> Result<Corpus, String> {
    let mut texts: Vec<String> = ops::all().map(|op| op.example.to_string()).collect();
    let mut weights = Vec::new();
    for code in CODES {
        match code.example {
            Example::Text(source) => texts.push(source.into()),
            Example::Weights(source, header, data) => {
                texts.push(source.into());
                let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
                bytes.extend(header.as_bytes());
                bytes.resize(bytes.len() + data, 0);
                weights.push(bytes);
            }
            Example::Long(_) | Example::Bytes(_) | Example::Index(_) => {}
        }
    }
    for path in paths {
        collect(path, &mut texts, &mut weights)?;
    }
    Ok((texts, weights))
}

fn collect(path: &Path, texts: &mut Vec<String>, weights: &mut Vec<Vec<u8>>) -> Result<(), String> {
    let error = |e: std::io::Error| format!("{}: {e}", path.display());
    if path.is_dir() {
        let entries: Result<Vec<_>, _> = std::fs::read_dir(path).map_err(error)?.collect();
        let mut entries: Vec<PathBuf> = entries.map_err(error)?.into_iter().map(|e| e.path()).collect();
        entries.sort();
        return entries.iter().try_for_each(|p| collect(p, texts, weights));
    }
    match path.extension().and_then(|e| e.to_str()) {
        Some("ir") => texts.push(std::fs::read_to_string(path).map_err(error)?),
        // Large files only slow the mutations down.
        Some("safetensors") if path.metadata().map_err(error)?.len() < 1 << 16 => {
            weights.push(std::fs::read(path).map_err(error)?);
        }
        _ => {}
    }
    Ok(())
}
