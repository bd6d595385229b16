//! Three models, compiled by the binary, with inputs in files and the results that `mixc` itself gives.

use mixc::{Blob, Model, Request, Target};
use safetensors::{Dtype, tensor::TensorView};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// One dim, no weights, no temporaries.
pub const ATTENTION: &str = "\
dim T = 1..256

func @main(%q: f32[2, T, 8], %k: f32[2, T, 8], %v: f32[2, T, 8]) -> f32[2, T, 8] {
  %y = attention %q, %k, %v {causal}
  return %y
}
";

/// Weights and temporaries.
pub const WEIGHTED: &str = "\
weights \"weights.safetensors\"
dim T = 1..256

func @main(%x: f32[T, 24]) -> f32[T, 12] {
  const %a = weight \"layer.a\" : f32[32, 24]
  const %b = weight \"layer.b\" : f32[32]
  const %c = weight \"layer.c\" : f32[12, 32]
  %h = linear %x, %a, %b
  %s = softmax_axis %h {axis = 0}
  %y = linear %s, %c
  return %y
}
";

/// Neither dims nor weights; ids that are checked.
pub const FIXED: &str = "\
func @main(%x: f32[50, 7], %ids: i64[3]) -> f32[3, 7] {
  %y = gather %x, %ids
  return %y
}
";

const NAMES: [&str; 3] = ["attention", "weighted", "fixed"];

/// The models in a temporary directory.
pub struct Models {
    home: tempfile::TempDir,
    expected: Vec<Vec<u8>>,
}

/// A command that must succeed.
#[track_caller]
pub fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    output
}

/// Whether a tool is here; says when it is not.
pub fn present(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("skipped: there is no `{tool}`");
    }
    found
}

/// The binary, with nothing of this process's environment that it reads.
pub fn mixc(dir: &Path, arguments: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_mixc"));
    c.current_dir(dir).args(arguments).env_remove("MIXC_TARGET");
    c
}

/// A weight file of deterministic numbers.
fn weights() -> Vec<u8> {
    let mut random = mixc::inputs::Random::new(5);
    let shapes: [(&str, Vec<usize>); 3] = [("layer.a", vec![32, 24]), ("layer.b", vec![32]), ("layer.c", vec![12, 32])];
    let data: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let values = (0..count).map(|_| random.normal() as f32).collect::<Vec<f32>>();
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name.to_string(), Dtype::F32, shape, bytes)
        })
        .collect();
    let views = data.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).expect("the length fits the shape"))
    });
    safetensors::serialize(views, None).expect("it is written")
}

impl Models {
    /// Compiles for a target, with inputs and the results that the library gives for the same target.
    pub fn new(target: &str) -> Models {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = home.path();
        let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).expect("the file is written");
        write("weights.safetensors", &weights());
        let mut expected = Vec::new();
        for (name, text) in NAMES.iter().zip([ATTENTION, WEIGHTED, FIXED]) {
            let file = format!("{name}.ir");
            write(&file, text.as_bytes());
            succeeds(&mut mixc(dir, &["compile", &file, "-o", "built", "--target", target]));
            let model = Model::load(&dir.join(&file)).expect("the model is right");
            let shapes = if text.contains("dim T") { vec!["T=37".parse().expect("a shape")] } else { Vec::new() };
            let dims = mixc::typical_dims(&model.program, &shapes);
            let inputs = mixc::inputs::random(&model.program, &dims, 7);
            for (v, blob) in model.program.params.iter().zip(&inputs) {
                write(&format!("{name}.{}", model.program.name_of(*v)), &blob.bytes);
            }
            let target = Target::parse(target).expect("the target exists");
            let runner = model.compile(&target, &Request::default()).expect("it compiles");
            let results: Vec<Blob> = runner.run(&inputs, 1).expect("it runs");
            expected.push(results[0].bytes.clone());
        }
        Models { home, expected }
    }

    /// The directory of the models and their inputs.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The directory of the artefacts.
    pub fn built(&self) -> PathBuf {
        self.home().join("built")
    }

    /// The results in files equal those of the library, bit for bit.
    #[track_caller]
    pub fn results_are_right(&self, extension: &str) {
        NAMES.iter().for_each(|name| self.result_is_right(name, extension));
    }

    /// The same for one model.
    #[track_caller]
    pub fn result_is_right(&self, name: &str, extension: &str) {
        let expected = NAMES.iter().zip(&self.expected).find(|(n, _)| **n == name).map(|(_, e)| e);
        let path = self.home().join(format!("{name}.{extension}"));
        let found = std::fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(expected == Some(&found), "{name}: the results are not those of `mixc run`");
    }
}
