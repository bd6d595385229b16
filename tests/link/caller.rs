//! Calls three models through their crates: the same inputs and results as `caller.c`.

use std::path::Path;

fn content(dir: &str, name: &str) -> Vec<u8> {
    std::fs::read(Path::new(dir).join(name)).expect("the file is there")
}

fn floats(dir: &str, name: &str) -> Vec<f32> {
    content(dir, name).chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
}

fn store(dir: &str, name: &str, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(Path::new(dir).join(name), bytes).expect("the results are written");
}

/// The indices dealt out to three threads.
struct Threads;

impl attention::Parallel for Threads {
    fn parallel_for(&self, n: usize, body: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|s| {
            for t in 0..3 {
                s.spawn(move || (t..n).step_by(3).for_each(body));
            }
        });
    }
}

fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    let dir = dir.as_str();
    let (q, k, v) = (floats(dir, "attention.q"), floats(dir, "attention.k"), floats(dir, "attention.v"));
    let dims = attention::Dims { T: (q.len() / 16) as i64 };
    let (mut y, mut z) = (vec![0.0; q.len()], vec![1.0; q.len()]);
    attention::run(&dims, &q, &k, &v, &mut y, None).expect("it runs");
    store(dir, "attention.rust", &y);
    attention::run(&dims, &q, &k, &v, &mut z, Some(&Threads)).expect("it runs on threads");
    assert!(y.iter().zip(&z).all(|(a, b)| a.to_bits() == b.to_bits()), "threads give the same bits");
    let error = attention::run(&dims, &q[1..], &k, &v, &mut y, None).expect_err("a slice too short");
    assert!(!error.to_string().is_empty());
    for t in [0, -1, 257, i64::MAX, i64::MIN] {
        attention::run(&attention::Dims { T: t }, &q, &k, &v, &mut y, None).expect_err("a dim that is none");
        attention::run(&attention::Dims { T: t }, &[], &[], &[], &mut [], None).expect_err("a dim out of bounds");
    }

    let x = floats(dir, "weighted.x");
    let file = content(dir, "weights.safetensors");
    assert!(weighted::bind(&[]).is_err() && weighted::bind(&[&file[..file.len() - 1]]).is_err());
    let weights = weighted::bind(&[&file]).expect("the weights bind");
    let dims = weighted::Dims { T: (x.len() / 24) as i64 };
    let mut y = vec![0.0; x.len() / 24 * 12];
    weighted::run(&dims, &weights, &x, &mut y, None).expect("it runs");
    store(dir, "weighted.rust", &y);

    let ids: Vec<i64> =
        content(dir, "fixed.ids").chunks(8).map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes"))).collect();
    let mut y = vec![0.0; ids.len() * 7];
    fixed::run(&floats(dir, "fixed.x"), &ids, &mut y, None).expect("it runs");
    store(dir, "fixed.rust", &y);
    fixed::run(&floats(dir, "fixed.x"), &[50; 3], &mut y, None).expect_err("an id out of range");
}
