//! Walks the source for error types and the tests for their variants.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below a folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

/// The word that `line` starts with after `before`.
fn word_after<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(before)?;
    let end = rest
        .find(|letter: char| !letter.is_alphanumeric())
        .unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

/// Variants by enum, and the error structs, of types that derive `Error`.
fn error_types() -> (BTreeMap<String, Vec<String>>, BTreeSet<String>) {
    let mut enums = BTreeMap::new();
    let mut structs = BTreeSet::new();
    for file in rust_files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let text = fs::read_to_string(file).unwrap();
        let mut derives_error = false;
        let mut within: Option<String> = None;
        for line in text.lines() {
            if line.starts_with("#[derive(") {
                derives_error = line
                    .trim_start_matches("#[derive(")
                    .trim_end_matches(")]")
                    .split(", ")
                    .any(|each| each == "Error");
            } else if let Some(name) = word_after(line, "pub enum ") {
                within = derives_error.then(|| name.to_owned());
                if derives_error {
                    enums.insert(name.to_owned(), Vec::new());
                }
            } else if let Some(name) = word_after(line, "pub struct ") {
                if derives_error {
                    structs.insert(name.to_owned());
                }
                within = None;
            } else if line == "}" {
                within = None;
            } else if let Some(name) = &within {
                // A variant is indented by one step.
                let variant = word_after(line, "    ").filter(|word| {
                    word.starts_with(char::is_uppercase) && !line.starts_with("     ")
                });
                if let (Some(variant), Some(variants)) = (variant, enums.get_mut(name)) {
                    variants.push(variant.to_owned());
                }
            }
        }
    }
    (enums, structs)
}

fn has_test(file: &str, test: &str) -> bool {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rules/rejects")).join(file);
    fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("#[test]\nfn {test}()")))
}

#[test]
fn every_variant_has_a_rejecting_test() {
    let (enums, structs) = error_types();
    // The scanner must at least have found these.
    assert!(enums.len() >= 15, "{:?}", enums.keys());
    assert!(enums["HeaderError"].contains(&"WrongBits".to_owned()));
    assert!(structs.contains("AmountOutOfRangeError"));

    let mut missing = Vec::new();
    for (name, variants) in &enums {
        assert!(!variants.is_empty(), "{name} has no variants");
        for variant in variants {
            let file = format!("{}.rs", snake(name));
            let test = format!("rejects_{}", snake(variant));
            if !has_test(&file, &test) {
                missing.push(format!("{name}::{variant}: {test} in {file}"));
            }
        }
    }
    for name in &structs {
        let test = format!("rejects_{}", snake(name.trim_end_matches("Error")));
        if !has_test("error_structs.rs", &test) {
            missing.push(format!("{name}: {test} in error_structs.rs"));
        }
    }
    assert!(missing.is_empty(), "no rejecting test for {missing:#?}");
}
