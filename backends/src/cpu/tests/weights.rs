//! Binding weights from safetensors files: good ones, odd ones, and broken ones that must be refused without a read
//! outside the file.

use super::guarded::Guarded;
use crate::cpu::abi::Failure;
use crate::cpu::target::Target;
use crate::cpu::vkir::tests::Rng;
use crate::cpu::{CallError, CompiledModel, compile};
use half::{bf16, f16};
use mixc_ir::dim::{Dim, DimValues};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, ROW};
use mixc_ir::lowered::{Action, Buffer, BufferId, Lowered, MemoryPlan, Phase, Place, Step};
use mixc_ir::program::DimItem;
use mixc_ir::tile::{Extent, TileBuilder, TileProgram, TileType};

/// `out[j, i] = in[i, j] * factor` of `[n, m]`.
fn transpose(n: usize, m: usize, factor: f64) -> TileProgram {
    let mut b = TileBuilder::new("transpose");
    let (r, c) = (Dim::from(n), Dim::from(m));
    let x = b.input("in", DType::F32, &[r.clone(), c.clone()]);
    let y = b.output("out", DType::F32, &[c, r]);
    let (rows, cols) = (Extent::fixed(n), Extent::fixed(m));
    let value = Expr::load(x, vec![Expr::from(ROW), Expr::from(COL)]) * Expr::float(factor);
    let tile = b.map("tile", TileType::F32, &rows, &cols, value);
    b.store(y, vec![Expr::from(COL), Expr::from(ROW)], Expr::tile(tile), &rows, &cols);
    b.finish()
}

/// `y[t, j] = x[t] * packed[j, 1] + direct[j]`.
fn apply(n: usize, m: usize) -> TileProgram {
    let mut b = TileBuilder::new("apply");
    let t = Dim::symbol("T");
    let x = b.input("x", DType::F32, std::slice::from_ref(&t));
    let packed = b.input("packed", DType::F32, &[Dim::from(m), Dim::from(n)]);
    let direct = b.input("direct", DType::F32, &[Dim::from(m)]);
    let y = b.output("y", DType::F32, &[t.clone(), Dim::from(m)]);
    let i = b.grid("i", Expr::from(&t));
    let (one, cols) = (Extent::fixed(1), Extent::fixed(m));
    let value = Expr::load(x, vec![i.clone()]) * Expr::load(packed, vec![Expr::from(COL), Expr::int(1)])
        + Expr::load(direct, vec![Expr::from(COL)]);
    let tile = b.map("tile", TileType::F32, &one, &cols, value);
    b.store(y, vec![i, Expr::from(COL)], Expr::tile(tile), &one, &cols);
    b.finish()
}

const N: usize = 3;
const M: usize = 5;

/// Weights `w` `[N, M]` and `d.\"q` `[M]`; `w` is transposed twice through a temporary while binding.
pub fn model() -> Lowered {
    let t = Dim::symbol("T");
    let (n, m) = (Dim::from(N), Dim::from(M));
    let buffer = |name: &str, shape: &[Dim], place| Buffer {
        name: name.to_owned(),
        dtype: DType::F32,
        shape: shape.to_vec(),
        place,
    };
    let run = |phase, program, buffers: &[u32]| Step {
        phase,
        action: Action::Run {
            program,
            buffers: buffers.iter().map(|&b| BufferId(b)).collect(),
            form: String::new(),
            site: String::new(),
        },
    };
    Lowered {
        name: "weighted".to_owned(),
        dims: vec![DimItem { name: "T".into(), low: 0, high: 100 }],
        must_hold: Vec::new(),
        buffers: vec![
            buffer("x", std::slice::from_ref(&t), Place::Param(0)),
            buffer("y", &[t, m.clone()], Place::Result(0)),
            buffer("w", &[n.clone(), m.clone()], Place::Weight("w".to_owned())),
            buffer("d", std::slice::from_ref(&m), Place::Weight("d.\"q".to_owned())),
            buffer("turned", &[m.clone(), n.clone()], Place::Temporary),
            buffer("back", &[n.clone(), m.clone()], Place::Temporary),
            buffer("packed", &[m, n], Place::Bound),
        ],
        params: vec![BufferId(0)],
        results: vec![BufferId(1)],
        steps: vec![
            run(Phase::Bind, transpose(N, M, 2.0), &[2, 4]),
            run(Phase::Bind, transpose(M, N, 1.0), &[4, 5]),
            run(Phase::Bind, transpose(N, M, 2.0), &[5, 6]),
            run(Phase::Run, apply(N, M), &[0, 6, 3, 1]),
        ],
        plan: MemoryPlan { run: Vec::new(), bind: vec![vec![BufferId(4)], vec![BufferId(5)]] },
    }
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

fn weight(i: usize, j: usize) -> f32 {
    i as f32 + j as f32 * 0.25
}

pub fn good_file() -> Vec<u8> {
    let mut data: Vec<u8> = (0..N * M).flat_map(|k| weight(k / M, k % M).to_le_bytes()).collect();
    data.extend((0..M).flat_map(|j| (j as f32).to_le_bytes()));
    let header = r#"{"__metadata__":{"a":"}]\"{","b":"w"},"w":{"dtype":"F32","shape":[3,5],"data_offsets":[0,60]},"d.\"q":{"dtype":"F32","shape":[5],"data_offsets":[60,80]}}"#;
    file(header, &data)
}

fn run(model: &CompiledModel, files: &[&[u8]]) -> Result<Vec<f32>, CallError> {
    let bound = model.bind(files)?;
    let x = [1.0f32, -2.0];
    let x: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut y = vec![0u8; 2 * M * 4];
    let dims = DimValues::from([("T".into(), 2)]);
    model.run(&dims, Some(&bound), &[&x], &mut [&mut y], None)?;
    Ok(y.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect())
}

fn expected() -> Vec<f32> {
    (0..2 * M).map(|k| [1.0, -2.0][k / M] * 4.0 * weight(1, k % M) + (k % M) as f32).collect()
}

#[test]
fn weights_are_found_widened_and_bound() {
    let model = compile(&model(), &Target::native()).unwrap();
    assert_eq!(run(&model, &[&good_file()]), Ok(expected()));
    // White space, another order of keys, unknown keys, halves, two files, data at odd addresses.
    let mut data = vec![0xee];
    data.extend((0..N * M).flat_map(|k| f16::from_f32(weight(k / M, k % M)).to_le_bytes()));
    let header = " { \"w\" :\n{ \"data_offsets\" : [ 1 , 31 ] , \"extra\" : {\"a\": [1, {\"b\": \"]\"}]}, \"shape\":[ 3,5 ] , \"dtype\"\t: \"F16\" } } ";
    let first = file(header, &data);
    let data: Vec<u8> = (0..M).flat_map(|j| bf16::from_f32(j as f32).to_le_bytes()).collect();
    let second = file(r#"{"d.\"q":{"dtype":"BF16","shape":[5],"data_offsets":[0,10]}}   "#, &data);
    assert_eq!(run(&model, &[&first, &second]), Ok(expected()));
    assert_eq!(run(&model, &[&second, &first]), Ok(expected()));
}

#[test]
fn wrong_files_are_refused_with_the_right_code() {
    let model = compile(&model(), &Target::native()).unwrap();
    let good = String::from_utf8_lossy(&good_file()[8..]).into_owned();
    let header: String = good.chars().take_while(|c| *c != '\0').collect();
    let data = vec![0; 80];
    for (from, to, failure) in [
        ("\"w\":{", "\"v\":{", Failure::WeightMissing),
        ("[3,5]", "[5,3]", Failure::WeightShape),
        ("[3,5]", "[3,5,1]", Failure::WeightShape),
        ("[3,5]", "[]", Failure::WeightShape),
        ("\"F32\",\"shape\":[3", "\"F64\",\"shape\":[3", Failure::WeightType),
        ("\"F32\",\"shape\":[3", "\"X7\",\"shape\":[3", Failure::WeightType),
        ("[0,60]", "[0,61]", Failure::BadWeightFile),
        ("[0,60]", "[60,0]", Failure::BadWeightFile),
        ("[0,60]", "[1000,1060]", Failure::BadWeightFile),
        ("[0,60]", "[0,99999999999999999999999999999]", Failure::BadWeightFile),
        ("[0,60]", "[0]", Failure::BadWeightFile),
        ("[0,60]", "[-1,59]", Failure::BadWeightFile),
        ("\"w\":{", "\"w\"{", Failure::BadWeightFile),
        ("{\"__", "[\"__", Failure::BadWeightFile),
    ] {
        assert!(header.contains(from), "{from}");
        let end = header.rfind('}').unwrap() + 1;
        let changed = header[..end].replacen(from, to, 1);
        let got = run(&model, &[&file(&changed, &data)]);
        assert_eq!(got, Err(CallError::Failed(failure)), "{changed}");
    }
    assert_eq!(run(&model, &[]), Err(CallError::Failed(Failure::WeightMissing)));
    assert_eq!(run(&model, &[&[1, 0, 0]]), Err(CallError::Failed(Failure::BadWeightFile)));
    assert_eq!(run(&model, &[&[255; 8]]), Err(CallError::Failed(Failure::BadWeightFile)));
}

#[test]
fn broken_files_are_never_read_beyond_their_end() {
    let model = compile(&model(), &Target::native()).unwrap();
    let good = good_file();
    let mut rng = Rng::new(9);
    for k in 0..3000 {
        let mut bytes = good.clone();
        if k < good.len() {
            bytes.truncate(k);
        } else {
            for _ in 0..1 + rng.below(3) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.pick(b"{}[]\",:0919 \\\xff\x00Fz");
            }
        }
        let guarded = Guarded::holding(&bytes, true);
        // Whatever the outcome is: no crash.
        let _ = run(&model, &[guarded.bytes()]);
    }
}
