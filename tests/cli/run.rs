//! `run`: inputs in, results out, and what is said when they do not fit.

use super::{ATTENTION, command, mixc, mixc_reads, workplace, write};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::path::Path;

/// A safetensors file of f32 tensors, all of the same number.
fn tensors(dir: &Path, name: &str, of: &[(&str, &[usize], f32)]) {
    let data: Vec<Vec<u8>> = of.iter().map(|(_, s, x)| x.to_le_bytes().repeat(s.iter().product())).collect();
    let views = of.iter().zip(&data).map(|((n, s, _), d)| {
        (n.to_string(), TensorView::new(Dtype::F32, s.to_vec(), d).expect("the length fits the shape"))
    });
    write(dir, name, safetensors::serialize(views, None).expect("it is written"));
}

#[test]
fn results_go_to_a_file_under_their_names() {
    let dir = workplace();
    let shape: &[usize] = &[2, 5, 8];
    tensors(
        dir.path(),
        "in.safetensors",
        &[("q", shape, 1.0), ("k", shape, 1.0), ("v", shape, 3.0), ("other", &[7], 0.0)],
    );
    let arguments = ["run", "attention.ir", "--inputs", "in.safetensors", "--output", "out.safetensors", "--check"];
    mixc(dir.path(), &arguments).with(0).silent().says("agrees with the reference");
    let bytes = std::fs::read(dir.path().join("out.safetensors")).expect("the results are there");
    let file = SafeTensors::deserialize(&bytes).expect("the file is well formed");
    let out = file.tensor("out0").expect("the first result");
    assert_eq!((out.shape(), out.dtype()), (shape, Dtype::F32));
    for x in out.data().chunks(4) {
        let x = f32::from_le_bytes(x.try_into().expect("four bytes"));
        assert!((x - 3.0).abs() < 1e-5, "the mean of equal values is the value, found {x}");
    }
}

#[test]
fn the_same_seed_gives_the_same_results_on_any_number_of_threads() {
    let dir = workplace();
    let run = |seed, threads, target| {
        let arguments =
            ["run", "attention.ir", "--random", seed, "--shape", "T=77", "--threads", threads, "--target", target];
        mixc(dir.path(), &arguments).with(0).out
    };
    let once = run("1", "1", "native");
    assert_eq!(once, run("1", "2", "native"));
    assert_eq!(once, run("1", "0", "cpu"));
    assert_ne!(once, run("2", "1", "native"));
    let reference = run("1", "1", "ref");
    assert_eq!(once.split(" [").next(), reference.split(" [").next(), "the same type and shape");
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let dir = workplace();
    let shape: &[usize] = &[2, 5, 8];
    for (what, of, said) in [
        ("missing", vec![("q", shape, 1.0), ("v", shape, 1.0)], "k`"),
        ("rank", vec![("q", &[5, 8][..], 1.0), ("k", shape, 1.0), ("v", shape, 1.0)], "q`"),
        ("length", vec![("q", shape, 1.0), ("k", &[2, 6, 8][..], 1.0), ("v", shape, 1.0)], "k`"),
        ("features", vec![("q", &[2, 5, 9][..], 1.0), ("k", shape, 1.0), ("v", shape, 1.0)], "q`"),
        ("bounds", vec![("q", &[2, 0, 8][..], 1.0), ("k", &[2, 0, 8][..], 1.0), ("v", &[2, 0, 8][..], 1.0)], "1..256"),
    ] {
        let file = format!("{what}.safetensors");
        tensors(dir.path(), &file, &of);
        mixc(dir.path(), &["run", "attention.ir", "--inputs", &file]).with(2).says(said).silent();
    }
    write(dir.path(), "double.ir", ATTENTION.replace("f32", "f64"));
    tensors(dir.path(), "single.safetensors", &[("q", shape, 1.0), ("k", shape, 1.0), ("v", shape, 1.0)]);
    mixc(dir.path(), &["run", "double.ir", "--inputs", "single.safetensors"]).with(2).says("must be f64").silent();
    mixc(dir.path(), &["run", "attention.ir", "--inputs", "nosuch.safetensors"]).with(1).says("nosuch.safetensors");
    mixc(dir.path(), &["run", "attention.ir", "--random", "1", "--shape", "T=257"]).with(2).says("1..256").silent();
    mixc(dir.path(), &["run", "attention.ir", "--random", "1", "--inputs", "single.safetensors"]).with(2).silent();
}

#[test]
fn broken_input_files_are_rejected() {
    let dir = workplace();
    let shape: &[usize] = &[2, 5, 8];
    tensors(dir.path(), "good.safetensors", &[("q", shape, 1.0), ("k", shape, 1.0), ("v", shape, 1.0)]);
    let good = std::fs::read(dir.path().join("good.safetensors")).expect("it was written");
    let header = u64::from_le_bytes(good[..8].try_into().expect("eight bytes")) as usize;
    let with_header = |text: &str| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.bytes());
        bytes.extend(&good[8 + header..]);
        bytes
    };
    let entry = |shape: &str, offsets: &str| {
        format!("{{\"q\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("seven bytes", good[..7].to_vec()),
        ("no header", good[..8].to_vec()),
        ("half a header", good[..8 + header / 2].to_vec()),
        ("no data", good[..8 + header].to_vec()),
        ("a byte too few", good[..good.len() - 1].to_vec()),
        ("a header as long as memory", [&u64::MAX.to_le_bytes(), &good[8..]].concat()),
        ("a header longer than the file", [&(good.len() as u64).to_le_bytes(), &good[8..]].concat()),
        ("no JSON", with_header("no JSON")),
        ("a list", with_header("[]")),
        ("offsets beyond the file", with_header(&entry("[2, 5, 8]", "[0, 99999999]"))),
        ("offsets backwards", with_header(&entry("[2, 5, 8]", "[320, 0]"))),
        ("a shape that lies", with_header(&entry("[2, 5, 9]", "[0, 320]"))),
        ("a shape that overflows", with_header(&entry("[4294967296, 4294967296, 4294967296]", "[0, 320]"))),
        ("a negative shape", with_header(&entry("[-2, 5, 8]", "[0, 320]"))),
        ("nested without end", with_header(&"[".repeat(100_000))),
    ];
    for (what, bytes) in cases {
        write(dir.path(), "bad.safetensors", &bytes);
        let ended = mixc(dir.path(), &["run", "attention.ir", "--inputs", "bad.safetensors"]);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{what}: {ended:#?}");
        assert!(ended.err.contains("bad.safetensors"), "{what}: {ended:#?}");
    }
}

#[test]
fn weights_are_checked_against_the_program() {
    let dir = workplace();
    let program = "weights \"w.safetensors\"\nfunc @main(%x: f32[3, 4]) -> f32[3, 2] {\n  \
                   const %w = weight \"layer.w\" : f32[2, 4]\n  %y = linear %x, %w\n  return %y\n}\n";
    write(dir.path(), "model.ir", program);
    mixc(dir.path(), &["check", "model.ir"]).with(0);
    let run = ["run", "model.ir", "--random", "1"];
    mixc(dir.path(), &run).with(1).says("w.safetensors");
    tensors(dir.path(), "w.safetensors", &[("layer.v", &[2, 4], 1.0)]);
    mixc(dir.path(), &run).with(1).says("E0403").says("layer.w");
    tensors(dir.path(), "w.safetensors", &[("layer.w", &[4, 2], 1.0)]);
    mixc(dir.path(), &run).with(1).says("E0404");
    tensors(dir.path(), "w.safetensors", &[("layer.w", &[2, 4], 1.0)]);
    mixc(dir.path(), &["run", "model.ir", "--random", "1", "--check"]).with(0);
    // --weights takes the place of what the file names.
    tensors(dir.path(), "zeros.safetensors", &[("layer.w", &[2, 4], 0.0)]);
    let zeros = mixc(dir.path(), &["run", "model.ir", "--random", "1", "--weights", "zeros.safetensors"]).with(0);
    assert!(zeros.out.starts_with("out0: f32[3, 2] [0.000000, 0.000000,"), "{}", zeros.out);
}

#[test]
fn tensors_come_from_standard_input_and_go_to_standard_output() {
    let dir = workplace();
    let shape: &[usize] = &[2, 5, 8];
    tensors(dir.path(), "in.safetensors", &[("q", shape, 1.0), ("k", shape, 1.0), ("v", shape, 3.0)]);
    let input = std::fs::read(dir.path().join("in.safetensors")).expect("it was written");
    mixc_reads(dir.path(), &input, &["run", "attention.ir", "--inputs", "-", "--output", "o.safetensors"])
        .with(0)
        .silent();
    let output = command(dir.path(), &["run", "attention.ir", "--inputs", "in.safetensors", "--output", "-"])
        .output()
        .expect("the binary runs");
    assert_eq!(output.stdout, std::fs::read(dir.path().join("o.safetensors")).expect("the results are there"));
    assert!(!dir.path().join("-").exists());
    mixc_reads(dir.path(), b"", &["run", "attention.ir", "--inputs", "-"]).with(1).silent();
}

#[test]
fn results_are_printed_for_programs_too() {
    let dir = workplace();
    let arguments = ["run", "attention.ir", "--random", "1", "--shape", "T=7", "--check", "--format", "json"];
    let value = mixc(dir.path(), &arguments).with(0).json();
    assert_eq!(value["outputs"][0]["name"], "out0");
    assert_eq!(value["outputs"][0]["shape"], serde_json::json!([2, 7, 8]));
    assert!(value["difference"].as_f64().is_some_and(|d| d < 1e-5), "{value}");
}

#[test]
fn a_dim_follows_from_a_multiple_of_it() {
    let dir = workplace();
    write(
        dir.path(),
        "m.ir",
        "dim T = 0..64\nfunc @main(%x: f32[6*T, 3]) -> f32[6*T, 3] {\n  %y = relu %x\n  return %y\n}\n",
    );
    for (t, shape) in [("T=0", "[0, 3]"), ("T=7", "[42, 3]")] {
        let ended = mixc(dir.path(), &["run", "m.ir", "--random", "1", "--shape", t, "--check"]).with(0);
        assert!(ended.out.contains(shape), "{ended:#?}");
    }
    tensors(dir.path(), "odd.safetensors", &[("x", &[7, 3][..], 1.0)]);
    mixc(dir.path(), &["run", "m.ir", "--inputs", "odd.safetensors"]).with(2).says("cannot be 7").silent();
}

#[test]
fn a_filter_without_a_middle_is_refused_at_the_call() {
    let dir = workplace();
    let text = "dim T = 1..64\nfunc @main(%x: f32[T, 3], %h: f32[3, T]) -> f32[T, 3] {\n  %y = long_conv %x, %h \
                {two_sided}\n  return %y\n}\n";
    write(dir.path(), "f.ir", text);
    for target in ["ref", "cpu"] {
        let run = |t| mixc(dir.path(), &["run", "f.ir", "--random", "1", "--shape", t, "--target", target]);
        run("T=7").with(0);
        run("T=8").with(2).silent();
    }
}
