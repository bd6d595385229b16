//! What machine code is made for: a name, the Cranelift target, the vector-kernel instruction set, and the CPU features
//! that the code needs where it runs.

use super::vkir::Isa;
use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use mixc_ir::machine::Machine;
use std::fmt;
use target_lexicon::Triple;

/// The names that [`Target::from_name`] knows.
pub const TARGET_NAMES: [&str; 8] =
    ["native", "baseline", "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "znver4", "aarch64"];

/// Why there is no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// No such name.
    Unknown(String),
    /// The code generator has no such target or setting.
    Unsupported(String),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetError::Unknown(name) => {
                write!(f, "unknown CPU target `{name}`; known are {}", TARGET_NAMES.join(", "))
            }
            TargetError::Unsupported(why) => write!(f, "unsupported CPU target: {why}"),
        }
    }
}

impl std::error::Error for TargetError {}

/// A CPU feature beyond the x86-64 baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// SSE3
    Sse3,
    /// SSSE3
    Ssse3,
    /// SSE4.1
    Sse41,
    /// SSE4.2
    Sse42,
    /// POPCNT
    Popcnt,
    /// CMPXCHG16B
    Cmpxchg16b,
    /// AVX
    Avx,
    /// AVX2
    Avx2,
    /// FMA3
    Fma,
    /// F16C
    F16c,
    /// BMI1
    Bmi1,
    /// BMI2
    Bmi2,
    /// AVX512F
    Avx512f,
    /// AVX512BW
    Avx512bw,
    /// AVX512DQ
    Avx512dq,
    /// AVX512VL
    Avx512vl,
    /// AVX512VBMI
    Avx512vbmi,
    /// AVX512_BITALG
    Avx512bitalg,
    /// AVX512_BF16
    Avx512bf16,
}

/// Where `cpuid` reports a feature: leaf, subleaf, register (0 eax, 1 ebx, 2 ecx, 3 edx), bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuidBit {
    /// Leaf.
    pub leaf: u32,
    /// Subleaf.
    pub subleaf: u32,
    /// 0 eax, 1 ebx, 2 ecx, 3 edx.
    pub register: u8,
    /// Bit number.
    pub bit: u8,
}

impl Feature {
    /// The usual lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Feature::Sse3 => "sse3",
            Feature::Ssse3 => "ssse3",
            Feature::Sse41 => "sse4.1",
            Feature::Sse42 => "sse4.2",
            Feature::Popcnt => "popcnt",
            Feature::Cmpxchg16b => "cmpxchg16b",
            Feature::Avx => "avx",
            Feature::Avx2 => "avx2",
            Feature::Fma => "fma",
            Feature::F16c => "f16c",
            Feature::Bmi1 => "bmi1",
            Feature::Bmi2 => "bmi2",
            Feature::Avx512f => "avx512f",
            Feature::Avx512bw => "avx512bw",
            Feature::Avx512dq => "avx512dq",
            Feature::Avx512vl => "avx512vl",
            Feature::Avx512vbmi => "avx512vbmi",
            Feature::Avx512bitalg => "avx512bitalg",
            Feature::Avx512bf16 => "avx512bf16",
        }
    }

    /// Its `cpuid` bit. Features from AVX on also need the operating system's consent, which `xgetbv` tells.
    pub fn cpuid(self) -> CpuidBit {
        let (leaf, subleaf, register, bit) = match self {
            Feature::Sse3 => (1, 0, 2, 0),
            Feature::Ssse3 => (1, 0, 2, 9),
            Feature::Fma => (1, 0, 2, 12),
            Feature::Cmpxchg16b => (1, 0, 2, 13),
            Feature::Sse41 => (1, 0, 2, 19),
            Feature::Sse42 => (1, 0, 2, 20),
            Feature::Popcnt => (1, 0, 2, 23),
            Feature::Avx => (1, 0, 2, 28),
            Feature::F16c => (1, 0, 2, 29),
            Feature::Bmi1 => (7, 0, 1, 3),
            Feature::Avx2 => (7, 0, 1, 5),
            Feature::Bmi2 => (7, 0, 1, 8),
            Feature::Avx512f => (7, 0, 1, 16),
            Feature::Avx512dq => (7, 0, 1, 17),
            Feature::Avx512bw => (7, 0, 1, 30),
            Feature::Avx512vl => (7, 0, 1, 31),
            Feature::Avx512vbmi => (7, 0, 2, 1),
            Feature::Avx512bitalg => (7, 0, 2, 12),
            Feature::Avx512bf16 => (7, 1, 0, 5),
        };
        CpuidBit { leaf, subleaf, register, bit }
    }

    /// The Cranelift setting that lets it use the feature, where there is one.
    fn cranelift(self) -> Option<&'static str> {
        match self {
            Feature::Sse3 => Some("has_sse3"),
            Feature::Ssse3 => Some("has_ssse3"),
            Feature::Sse41 => Some("has_sse41"),
            Feature::Sse42 => Some("has_sse42"),
            Feature::Popcnt => Some("has_popcnt"),
            Feature::Cmpxchg16b => Some("has_cmpxchg16b"),
            Feature::Avx => Some("has_avx"),
            Feature::Avx2 => Some("has_avx2"),
            Feature::Fma => Some("has_fma"),
            Feature::Bmi1 => Some("has_bmi1"),
            Feature::Bmi2 => Some("has_bmi2"),
            Feature::Avx512f => Some("has_avx512f"),
            Feature::Avx512dq => Some("has_avx512dq"),
            Feature::Avx512vl => Some("has_avx512vl"),
            Feature::Avx512vbmi => Some("has_avx512vbmi"),
            Feature::Avx512bitalg => Some("has_avx512bitalg"),
            Feature::F16c | Feature::Avx512bw | Feature::Avx512bf16 => None,
        }
    }

    /// Whether the CPU that runs this program has it, with the operating system's consent.
    pub fn detected(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            match self {
                Feature::Sse3 => is_x86_feature_detected!("sse3"),
                Feature::Ssse3 => is_x86_feature_detected!("ssse3"),
                Feature::Sse41 => is_x86_feature_detected!("sse4.1"),
                Feature::Sse42 => is_x86_feature_detected!("sse4.2"),
                Feature::Popcnt => is_x86_feature_detected!("popcnt"),
                Feature::Cmpxchg16b => is_x86_feature_detected!("cmpxchg16b"),
                Feature::Avx => is_x86_feature_detected!("avx"),
                Feature::Avx2 => is_x86_feature_detected!("avx2"),
                Feature::Fma => is_x86_feature_detected!("fma"),
                Feature::F16c => is_x86_feature_detected!("f16c"),
                Feature::Bmi1 => is_x86_feature_detected!("bmi1"),
                Feature::Bmi2 => is_x86_feature_detected!("bmi2"),
                Feature::Avx512f => is_x86_feature_detected!("avx512f"),
                Feature::Avx512bw => is_x86_feature_detected!("avx512bw"),
                Feature::Avx512dq => is_x86_feature_detected!("avx512dq"),
                Feature::Avx512vl => is_x86_feature_detected!("avx512vl"),
                Feature::Avx512vbmi => is_x86_feature_detected!("avx512vbmi"),
                Feature::Avx512bitalg => is_x86_feature_detected!("avx512bitalg"),
                Feature::Avx512bf16 => is_x86_feature_detected!("avx512bf16"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            false
        }
    }
}

const V2: &[Feature] =
    &[Feature::Sse3, Feature::Ssse3, Feature::Sse41, Feature::Sse42, Feature::Popcnt, Feature::Cmpxchg16b];
const V3: &[Feature] = &[Feature::Avx, Feature::Avx2, Feature::Fma, Feature::F16c, Feature::Bmi1, Feature::Bmi2];
const V4: &[Feature] = &[Feature::Avx512f, Feature::Avx512bw, Feature::Avx512dq, Feature::Avx512vl];
const ZNVER4: &[Feature] = &[Feature::Avx512vbmi, Feature::Avx512bitalg, Feature::Avx512bf16];

/// A machine to make code for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    name: String,
    triple: Triple,
    features: Vec<Feature>,
    isa: Isa,
}

/// The widest vector kernels that a feature list allows.
fn widest(features: &[Feature]) -> Isa {
    let has = |list: &[Feature]| list.iter().all(|feature| features.contains(feature));
    if !has(V3) {
        Isa::Clif
    } else if has(V4) {
        Isa::Avx512 { bf16: features.contains(&Feature::Avx512bf16) }
    } else {
        Isa::Avx2
    }
}

impl Target {
    /// The target called `name`, one of [`TARGET_NAMES`].
    pub fn from_name(name: &str) -> Result<Target, TargetError> {
        let linux = |architecture: &str| -> Result<Triple, TargetError> {
            format!("{architecture}-unknown-linux-gnu")
                .parse()
                .map_err(|error| TargetError::Unsupported(format!("{architecture}: {error}")))
        };
        let x86 = |lists: &[&[Feature]]| -> Result<Target, TargetError> {
            let features = lists.concat();
            Ok(Target { name: name.to_owned(), triple: linux("x86_64")?, isa: widest(&features), features })
        };
        match name {
            "native" => Ok(Target::native()),
            "baseline" | "x86-64" => x86(&[]),
            "x86-64-v2" => x86(&[V2]),
            "x86-64-v3" => x86(&[V2, V3]),
            "x86-64-v4" => x86(&[V2, V3, V4]),
            "znver4" => x86(&[V2, V3, V4, ZNVER4]),
            "aarch64" => {
                Ok(Target { name: name.to_owned(), triple: linux("aarch64")?, features: Vec::new(), isa: Isa::Clif })
            }
            _ => Err(TargetError::Unknown(name.to_owned())),
        }
    }

    /// The machine that runs this program.
    pub fn native() -> Target {
        let all = [V2, V3, V4, ZNVER4].concat();
        let features: Vec<Feature> = all.into_iter().filter(|feature| feature.detected()).collect();
        // the raw kernels speak the System V convention only
        let isa = if cfg!(windows) { Isa::Clif } else { widest(&features) };
        Target { name: "native".to_owned(), triple: Triple::host(), features, isa }
    }

    /// The same machine with narrower vector kernels: for comparing the emitters. `None` if it cannot run them.
    pub fn with_isa(&self, isa: Isa) -> Option<Target> {
        let possible = match (self.isa, isa) {
            (_, Isa::Clif) => true,
            (Isa::Clif, _) => false,
            (_, Isa::Avx2) => true,
            (Isa::Avx512 { bf16: have }, Isa::Avx512 { bf16: want }) => have || !want,
            (Isa::Avx2, Isa::Avx512 { .. }) => false,
        };
        possible.then(|| Target { isa, ..self.clone() })
    }

    /// The name that it was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The instruction set of its vector kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What it can do at most: the machine that was measured where the instructions are those of one, its shape scaled to
    /// the vectors of others. Depends on the instructions alone, so that code does not depend on the number of cores.
    pub fn machine(&self) -> Machine {
        let other = |bits, fma| Machine::cpu(&self.name, bits, fma, [None; 3], Machine::zen4().threads);
        match self.isa {
            Isa::Avx512 { bf16: true } => Machine::zen4(),
            Isa::Avx512 { bf16: false } => other(512, true),
            Isa::Avx2 => other(256, true),
            Isa::Clif => other(128, self.fused()),
        }
    }

    /// Architecture, operating system and object format.
    pub fn triple(&self) -> &Triple {
        &self.triple
    }

    /// The features that its code may use, hence needs.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Whether the code generator may use `feature`.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// Whether multiply-adds of its vector kernels round once.
    pub fn fused(&self) -> bool {
        !self.is_x86() || self.has(Feature::Fma)
    }

    /// Whether it is x86-64.
    pub fn is_x86(&self) -> bool {
        self.triple.architecture == target_lexicon::Architecture::X86_64
    }

    /// The first feature that the CPU running this program lacks, if any; an error if it is another architecture.
    pub fn missing_here(&self) -> Result<Option<Feature>, TargetError> {
        if self.triple.architecture != Triple::host().architecture {
            let (theirs, ours) = (self.triple.architecture, Triple::host().architecture);
            return Err(TargetError::Unsupported(format!("{theirs} code does not run on {ours}")));
        }
        Ok(self.features.iter().copied().find(|feature| !feature.detected()))
    }

    /// Cranelift's description: position independent for objects, not so for code that runs in this process.
    pub fn cranelift_isa(&self, position_independent: bool) -> Result<OwnedTargetIsa, TargetError> {
        let unsupported = |what: &dyn fmt::Display| TargetError::Unsupported(what.to_string());
        let mut flags = settings::builder();
        let options = [
            ("opt_level", "speed"),
            ("is_pic", if position_independent { "true" } else { "false" }),
            ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
            ("log2_min_function_alignment", "6"),
        ];
        for (name, value) in options {
            flags.set(name, value).map_err(|error| unsupported(&error))?;
        }
        let mut builder = isa::lookup(self.triple.clone()).map_err(|error| unsupported(&error))?;
        for feature in &self.features {
            if let Some(setting) = feature.cranelift() {
                builder.enable(setting).map_err(|error| unsupported(&error))?;
            }
        }
        builder.finish(settings::Flags::new(flags)).map_err(|error| unsupported(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_cranelift_target() {
        for name in TARGET_NAMES {
            let target = Target::from_name(name).unwrap();
            assert_eq!(target.name(), name);
            for position_independent in [false, true] {
                let isa = target.cranelift_isa(position_independent).unwrap();
                assert_eq!(isa.flags().is_pic(), position_independent);
            }
        }
    }

    #[test]
    fn names_fix_the_vector_kernels() {
        let isa = |name| Target::from_name(name).unwrap().isa();
        assert_eq!(isa("x86-64"), Isa::Clif);
        assert_eq!(isa("x86-64-v3"), Isa::Avx2);
        assert_eq!(isa("x86-64-v4"), Isa::Avx512 { bf16: false });
        assert_eq!(isa("znver4"), Isa::Avx512 { bf16: true });
        assert_eq!(isa("aarch64"), Isa::Clif);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = Target::from_name("pentium").unwrap_err().to_string();
        assert!(message.contains("pentium") && TARGET_NAMES.iter().all(|name| message.contains(name)), "{message}");
    }

    #[test]
    fn the_native_target_misses_nothing_here() {
        assert_eq!(Target::native().missing_here(), Ok(None));
        assert!(Target::from_name("aarch64").unwrap().missing_here().is_err() != cfg!(target_arch = "aarch64"));
    }
}
