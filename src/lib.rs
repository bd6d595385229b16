//! mixc: a compiler for long-sequence models. Token mixing in, native code out.
//!
//! ```text
//! text -> parse -> verify -> expand -> rewrite (e-graph) -> lower to tile programs, fused -> memory plan -> emit
//! ```
//!
//! [`Model`] is what is written, [`Compilation`] what becomes of it at every stage, [`Runner`] what runs in memory, and
//! [`artefacts`] what other programs link.
//!
//! ```
//! let text = "func @main(%x: f32[2, 3]) -> f32[2, 3] {\n  %y = relu %x\n  return %y\n}\n";
//! let model = mixc::Model::from_text(text, "relu", std::path::Path::new("."), &[])?;
//! let runner = model.compile(&mixc::Target::native()?, &mixc::Request::default())?;
//! let x = mixc::Blob::from_f32(&[2, 3], &[-1.0, 2.0, -3.0, 4.0, -5.0, 6.0]);
//! let y = runner.run(&[x], 1)?;
//! assert_eq!(y[0].to_f64(), [0.0, 2.0, 0.0, 4.0, 0.0, 6.0]);
//! # Ok::<(), mixc::Error>(())
//! ```

pub mod artefacts;
pub mod explain;
pub mod import;
pub mod inputs;
pub mod kernels;
pub mod lines;
pub mod page;
pub mod variants;
pub mod weights;

mod error;
mod model;
mod pipeline;
mod runner;
mod shapes;
mod target;

pub use error::Error;
pub use mixc_backends::cpu::pool::Pool;
pub use mixc_ir as ir;
pub use mixc_ir::tensor::Blob;
pub use mixc_tuner::measure;
pub use model::{Model, check, decode_text, format, text_size_limit};
pub use pipeline::{Compilation, Request, Stage, compile, print_stage};
pub use runner::{Runner, pool};
pub use shapes::{
    ShapeArg, from_inputs as dims_from_inputs, of_random_run as random_run_dims, typical as typical_dims,
};
pub use target::Target;

/// The names of the CPU targets.
pub fn target_names() -> &'static [&'static str] {
    &mixc_backends::cpu::target::TARGET_NAMES
}

/// Whether code for the target of that name runs on this machine, or why it does not.
pub fn runs_here(name: &str) -> Result<(), Error> {
    match Target::parse(name)? {
        Target::Reference => Ok(()),
        Target::Cpu(t) => match t.missing_here() {
            Ok(None) => Ok(()),
            Ok(Some(feature)) => Err(Error::Unavailable(format!("this CPU lacks {}", feature.name()))),
            Err(e) => Err(Error::Unavailable(e.to_string())),
        },
        Target::Cuda(t) => match mixc_backends::cuda::open(&t) {
            Ok(_) => Ok(()),
            Err(e) => Err(Error::Unavailable(e.to_string())),
        },
    }
}

/// The forms of the catalogue with one line each.
pub fn forms() -> &'static [(&'static str, &'static str)] {
    mixc_passes::forms::CATALOGUE
}
