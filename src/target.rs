//! Where a model is to run.

use crate::Error;
use mixc_backends::cpu::target as cpu;

/// A target.
#[derive(Clone)]
pub enum Target {
    /// The f64 interpreter.
    Reference,
    /// Machine code.
    Cpu(Box<cpu::Target>),
}

impl Target {
    /// By its name on the command line.
    pub fn parse(name: &str) -> Result<Target, Error> {
        match name {
            "ref" => Ok(Target::Reference),
            "cpu" => Target::parse("native"),
            _ if name == "cuda" || name.starts_with("cuda:") => {
                Err(Error::Unavailable(format!("target `{name}`: this version of mixc has no CUDA back end")))
            }
            _ => match cpu::Target::from_name(name) {
                Ok(t) => Ok(Target::Cpu(Box::new(t))),
                Err(e @ cpu::TargetError::Unknown(_)) => Err(Error::Usage(format!("{e}, cpu, ref"))),
                Err(e) => Err(Error::Unavailable(e.to_string())),
            },
        }
    }

    /// This machine's CPU.
    pub fn native() -> Result<Target, Error> {
        Target::parse("native")
    }
}
