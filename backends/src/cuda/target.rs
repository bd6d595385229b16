//! Which device a model is for.

use mixc_ir::machine::Machine;
use std::fmt;

/// Architectures that code can be made for: compute capability 8.0 and later, whose matrix instructions the prelude
/// uses. A name that ends in `a` is of that architecture alone.
pub const ARCHITECTURES: [&str; 9] =
    ["sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_100a", "sm_120"];

/// A CUDA target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CudaTarget {
    /// The device of this machine.
    Here,
    /// The emulator: the generated text, run by the processor.
    Emulated,
    /// Devices of an architecture, here or elsewhere.
    Architecture(&'static str),
}

impl CudaTarget {
    /// By its name on the command line: `cuda`, `cuda:emu`, `cuda:sm_80`.
    pub fn from_name(name: &str) -> Option<CudaTarget> {
        match name.strip_prefix("cuda")? {
            "" => Some(CudaTarget::Here),
            ":emu" => Some(CudaTarget::Emulated),
            rest => {
                let wanted = rest.strip_prefix(':')?;
                ARCHITECTURES.iter().find(|a| **a == wanted).map(|a| CudaTarget::Architecture(a))
            }
        }
    }
}

impl CudaTarget {
    /// What such a device can do at most. Code for one that is not named is made as for the newer one.
    pub fn machine(&self) -> Machine {
        match self {
            CudaTarget::Architecture(name) if name.starts_with("sm_8") => Machine::a100(),
            CudaTarget::Architecture(_) | CudaTarget::Here | CudaTarget::Emulated => Machine::h100(),
        }
    }
}

impl fmt::Display for CudaTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CudaTarget::Here => f.write_str("cuda"),
            CudaTarget::Emulated => f.write_str("cuda:emu"),
            CudaTarget::Architecture(name) => write!(f, "cuda:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for name in ["cuda", "cuda:emu", "cuda:sm_80", "cuda:sm_90a"] {
            assert_eq!(CudaTarget::from_name(name).map(|t| t.to_string()).as_deref(), Some(name));
        }
        for name in ["cud", "cuda:", "cuda:sm_70", "cuda:sm_90b", "cudax"] {
            assert_eq!(CudaTarget::from_name(name), None, "{name}");
        }
    }
}
