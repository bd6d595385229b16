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
pub mod import;
pub mod inputs;
pub mod weights;

mod error;
mod model;
mod pipeline;
mod runner;
mod shapes;
mod target;

pub use error::Error;
pub use mixc_ir as ir;
pub use mixc_ir::tensor::Blob;
pub use model::{Model, check, decode_text, format, text_size_limit};
pub use pipeline::{Compilation, Request, Stage, compile, print_stage};
pub use runner::Runner;
pub use shapes::{ShapeArg, from_inputs as dims_from_inputs, typical as typical_dims};
pub use target::Target;

/// The forms of the catalogue with one line each.
pub fn forms() -> &'static [(&'static str, &'static str)] {
    mixc_passes::forms::CATALOGUE
}
