//! Where a model is to run.

use crate::Error;
use mixc_backends::cpu::target as cpu;
use mixc_backends::cuda::{ARCHITECTURES, CudaTarget};
use mixc_ir::machine::Machine;

/// A target.
#[derive(Clone)]
pub enum Target {
    /// The f64 interpreter.
    Reference,
    /// Machine code.
    Cpu(Box<cpu::Target>),
    /// A GPU, or its emulator.
    Cuda(CudaTarget),
}

impl Target {
    /// By its name on the command line.
    pub fn parse(name: &str) -> Result<Target, Error> {
        match name {
            "ref" => Ok(Target::Reference),
            "cpu" => Target::parse("native"),
            _ if name == "cuda" || name.starts_with("cuda:") => match CudaTarget::from_name(name) {
                Some(target) => Ok(Target::Cuda(target)),
                None => Err(Error::Usage(format!("unknown target `{name}`; known are {}", cuda_names()))),
            },
            _ => match cpu::Target::from_name(name) {
                Ok(t) => Ok(Target::Cpu(Box::new(t))),
                Err(e @ cpu::TargetError::Unknown(_)) => Err(Error::Usage(format!("{e}, cpu, ref, {}", cuda_names()))),
                Err(e) => Err(Error::Unavailable(e.to_string())),
            },
        }
    }

    /// The machine that costs are reckoned for; of the reference this machine's CPU.
    pub fn machine(&self) -> Machine {
        match self {
            Target::Reference => cpu::Target::native().machine(),
            Target::Cpu(target) => target.machine(),
            Target::Cuda(target) => target.machine(),
        }
    }

    /// This machine's CPU.
    pub fn native() -> Result<Target, Error> {
        Target::parse("native")
    }
}

/// The names of GPU targets, as messages list them.
fn cuda_names() -> String {
    format!("cuda, cuda:emu, {}", ARCHITECTURES.map(|a| format!("cuda:{a}")).join(", "))
}
