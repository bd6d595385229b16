//! Files that are right are read as they are; whatever is wrong with one is said.

use super::*;
use crate::verify;

/// A file with this header text and so many bytes behind it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..data).map(|k| k as u8));
    bytes
}

fn messages(bytes: &[u8]) -> String {
    let found = Weights::read(&[("w", bytes)]).expect_err("a broken file");
    found.iter().map(|d| format!("{d}\n")).collect()
}

#[test]
fn a_file_of_the_format_own_writer_is_read() {
    let data: Vec<u8> = (0..48).collect();
    let view =
        |dtype, shape: &[usize], bytes| safetensors::tensor::TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    use safetensors::Dtype;
    let tensors = [
        ("b.half", view(Dtype::BF16, &[3, 2], &data[..12])),
        ("a", view(Dtype::F32, &[2, 1, 3], &data[..24])),
        ("empty", view(Dtype::I64, &[0, 7], &[])),
        ("scalar", view(Dtype::F64, &[], &data[..8])),
        ("flags", view(Dtype::BOOL, &[5], &data[..5])),
        ("bytes", view(Dtype::U8, &[5], &data[..5])),
    ];
    let bytes = safetensors::serialize(tensors, Some([("k".to_string(), "v".to_string())].into())).unwrap();
    let weights = Weights::read(&[("w", &bytes)]).unwrap();
    assert_eq!(weights.len(), 6);
    let half = weights.find("b.half").unwrap();
    assert_eq!(
        (half.dtype, half.shape.as_slice(), half.bytes),
        (StoredType::Known(DType::BF16), &[3, 2][..], &data[..12])
    );
    assert_eq!(weights.find("bytes").unwrap().dtype, StoredType::Other("U8", 8));
    assert!(weights.find("bytes").unwrap().to_blob().is_none());
    assert_eq!(weights.find("scalar").unwrap().to_blob().unwrap().bytes, &data[..8]);
}

#[test]
fn everything_that_is_wrong_with_a_file_is_said() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!("{{\"a\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    let two = |first: &str, second: &str| {
        format!(
            "{{\"a\":{{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":{first}}},\
             \"b\":{{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":{second}}}}}"
        )
    };
    for (bytes, expected) in [
        (vec![1, 2, 3], "is no safetensors file"),
        (u64::MAX.to_le_bytes().to_vec(), "at most 100000000"),
        (file("{}", 0)[..9].to_vec(), "should have 2 bytes"),
        ([&[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe][..]].concat(), "not UTF-8"),
        (file("", 0), "does not parse"),
        (file("[1]", 0), "does not parse"),
        (file(&"[".repeat(100_000), 0), "does not parse"),
        (file(&format!("{{\"__metadata__\":{}", "[".repeat(100_000)), 0), "does not parse"),
        (file("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4), "missing field"),
        (file("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 4), "given twice"),
        (file(&one("F32", "[-1]", "[0,4]"), 4), "does not parse"),
        (file(&one("F32", "[1.5]", "[0,4]"), 4), "does not parse"),
        (file(&one("F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), 4), "at most 16 lengths"),
        (file(&one("F33", "[1]", "[0,4]"), 4), "unknown element type \"F33\""),
        (file(&one("F32", "[2]", "[0,4]"), 4), "of F32 and shape [2] has 4 bytes"),
        (file(&one("F32", "[4611686018427387904,4]", "[0,4]"), 4), "has 4 bytes"),
        (file(&one("F32", "[18446744073709551615]", "[0,4]"), 4), "has 4 bytes"),
        (file(&one("F32", "[1]", "[4,0]"), 4), "has bytes 4..0 of 4"),
        (file(&one("F32", "[1]", "[0,18446744073709551615]"), 4), "of 4"),
        (file(&one("F32", "[2]", "[0,8]"), 4), "has bytes 0..8 of 4"),
        (file(&one("F32", "[1]", "[0,4]"), 5), "1 bytes at the end"),
        (file(&one("F32", "[1]", "[1,5]"), 5), "1 bytes behind"),
        (file(&two("[0,4]", "[3,7]"), 7), "within the one before it"),
        (file(&two("[0,4]", "[0,4]"), 4), "within the one before it"),
        (file(&two("[4,8]", "[0,4]").replace("\"b\"", "\"a\""), 8), "E0406"),
    ] {
        let found = messages(&bytes);
        assert!(found.contains(expected), "expected {expected:?}, found {found}");
    }
    // Out of order is no error: names are sorted in some files, offsets in others.
    assert!(Weights::read(&[("w", &file(&two("[4,8]", "[0,4]"), 8))]).is_ok());
    let same = file(&one("U8", "[4]", "[0,4]"), 4);
    let found = Weights::read(&[("v", &same), ("w", &same)]).unwrap_err();
    assert_eq!(found[0].code, "E0406");
}

#[test]
fn an_index_names_files_beside_it() {
    let exists = |name: &str| name == "x.safetensors";
    let read = |text: &str| Index::read("i.json", text.as_bytes(), &exists);
    let index =
        read("{\"metadata\":{\"total_size\":4},\"weight_map\":{\"a\":\"x.safetensors\",\"b\":\"x.safetensors\"}}")
            .unwrap();
    assert_eq!(index.files(), ["x.safetensors"]);
    let bytes = file("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    let found = index.check(&Weights::read(&[("x.safetensors", &bytes)]).unwrap());
    assert!(found.len() == 1 && found[0].message.contains("\"b\""), "{found:?}");
    for text in
        ["", "{}", "{\"weight_map\":{\"a\":3}}", "{\"weight_map\":{\"a\":\"../x\"}}", "{\"weight_map\":{\"a\":\"y\"}}"]
    {
        assert_eq!(read(text).unwrap_err()[0].code, "E0402", "{text}");
    }
}

#[test]
fn a_program_is_compared_with_its_weights() {
    let source = "\
func @main(%x: f32[2]) -> f32[2] {
  const %a = weight \"layer.0.weight\" : f32[2]
  const %b = weight \"bias\" : f32[2]
  const %c = weight \"half\" : f32[2]
  const %d = weight \"double\" : f32[2]
  const %e = weight \"nothing like it\" : f32[2]
  %y = add %x, %a
  return %y
}
";
    let header = "{\"layer.0.weigth\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\
                  \"bias\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]},\
                  \"half\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[16,20]},\
                  \"double\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[20,36]}}";
    let bytes = file(header, 36);
    let program = verify::check(source).unwrap();
    let weights = Weights::read(&[("w", &bytes)]).unwrap();
    let found = check(&program, &weights);
    let codes: Vec<&str> = found.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["E0403", "E0404", "E0405", "E0403"], "{found:#?}");
    assert_eq!(found[0].help.as_deref(), Some("did you mean \"layer.0.weigth\"?"));
    assert_eq!(to_reference(&program, &weights), Err(found));
    let right = "\
func @main(%x: f32[1, 2]) -> f32[1, 2] {
  const %a = weight \"half\" : f32[2]
  const %b = weight \"bias\" : f32[1, 2]
  %y = add %b, %a
  return %y
}
";
    let widened = to_reference(&verify::check(right).unwrap(), &weights).unwrap();
    assert_eq!(widened.keys().collect::<Vec<_>>(), ["bias", "half"]);
    assert_eq!(widened["bias"].shape, [1, 2]);
}
