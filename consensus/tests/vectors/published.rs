//! Published vectors: aserti3-2d runs, Bitcoin's compact targets and first hundred
//! headers, Wycheproof's PSS file. They lie in a folder beside the repository. If the
//! folder is missing, each test says that it was skipped.

use std::fs;
use std::path::{Path, PathBuf};

use pithead_consensus::difficulty::{AsertPace, asert};
use pithead_consensus::target::CompactTargetError;
use pithead_consensus::{
    BlockHash, BlockHeader, CompactTarget, Decode, Encode, PublicKey, Signature, Target,
};
use serde_json::Value;

/// The published vectors, or `None` with a line that says so.
fn vectors(folder: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")).join(folder);
    if path.is_dir() {
        return Some(path);
    }
    // Not println!, which the test harness hides if the test passes.
    use std::io::Write as _;
    let _ = writeln!(
        std::io::stderr(),
        "skipped: published vectors {folder}: {} is missing",
        path.display()
    );
    None
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn hex_u32(text: &str) -> u32 {
    u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// The published runs are of Bitcoin Cash: ten minutes, two days.
const BITCOIN_CASH: AsertPace = AsertPace {
    interval_secs: 600,
    half_life_secs: 172_800,
};

/// A target from its display form, which is big-endian hex.
fn target_of_hex(text: &str) -> Option<Target> {
    let mut bytes: Vec<u8> = hex::decode(text).unwrap();
    bytes.reverse();
    Target::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn reproduces_the_aserti3_2d_runs() {
    let Some(folder) = vectors("asert") else {
        return;
    };
    let limit = CompactTarget(0x1d00_ffff).to_target().unwrap();
    let mut files = 0;
    let mut values = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let field = |name: &str| {
            let line = text.lines().find(|line| line.contains(name)).unwrap();
            line.rsplit(": ").next().unwrap().trim().to_owned()
        };
        let anchor_height: i128 = field("anchor height").parse().unwrap();
        let anchor_parent_time: i128 = field("anchor parent time").parse().unwrap();
        let anchor = CompactTarget(hex_u32(&field("anchor nBits")))
            .to_target()
            .unwrap();
        let iterations: usize = field("iterations").parse().unwrap();
        let mut rows = 0;
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let height: i128 = columns[1].parse().unwrap();
            let time: i128 = columns[2].parse().unwrap();
            let target = asert(
                anchor,
                time - anchor_parent_time,
                height - anchor_height,
                BITCOIN_CASH,
                limit,
            );
            assert_eq!(target.to_compact().0, hex_u32(columns[3]), "{line}");
            rows += 1;
        }
        assert_eq!(rows, iterations, "{}", field("description"));
        files += 1;
        values += rows;
    }
    assert!(
        files >= 6 && values >= 1_000,
        "{files} files, {values} values"
    );
}

#[test]
fn reads_and_writes_compact_targets_as_bitcoin_does() {
    let Some(folder) = vectors("nbits") else {
        return;
    };
    let all = json(&folder.join("compact.json"));
    let decode = all["decode"].as_array().unwrap();
    assert!(!decode.is_empty());
    for case in decode {
        let bits = hex_u32(case["compact"].as_str().unwrap());
        let result = CompactTarget(bits).to_target();
        if case["overflow"].as_bool().unwrap() {
            assert_eq!(result, Err(CompactTargetError::Overflow { bits }), "{case}");
        } else if case["negative"].as_bool().unwrap() {
            assert_eq!(result, Err(CompactTargetError::Negative { bits }), "{case}");
        } else {
            match target_of_hex(case["target"].as_str().unwrap()) {
                None => assert_eq!(result, Err(CompactTargetError::Zero { bits }), "{case}"),
                Some(target) => {
                    let canonical = hex_u32(case["reencode"].as_str().unwrap());
                    assert_eq!(target.to_compact().0, canonical, "{case}");
                    if canonical == bits {
                        assert_eq!(result, Ok(target), "{case}");
                    } else {
                        let error = CompactTargetError::NotCanonical { bits, canonical };
                        assert_eq!(result, Err(error), "{case}");
                    }
                }
            }
        }
    }
    let periods = all["mainnet_periods"].as_array().unwrap();
    for pair in periods.windows(2) {
        // The file lists a period's target with the last hash of the period before.
        let bits = hex_u32(pair[0]["compact"].as_str().unwrap());
        let target = CompactTarget(bits).to_target().unwrap();
        let hash: BlockHash = pair[1]["last_hash"].as_str().unwrap().parse().unwrap();
        assert!(target.is_met_by(&hash), "{}", pair[1]);
    }
    for list in ["encode", "mainnet_periods"] {
        let cases = all[list].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let target = target_of_hex(case["target"].as_str().unwrap()).unwrap();
            let bits = CompactTarget(hex_u32(case["compact"].as_str().unwrap()));
            assert_eq!(target.to_compact(), bits, "{case}");
        }
    }
}

#[test]
fn hashes_the_first_hundred_bitcoin_headers() {
    let Some(folder) = vectors("headers") else {
        return;
    };
    let bytes = fs::read(folder.join("bitcoin-mainnet-000-099.bin")).unwrap();
    let headers: Vec<BlockHeader> = bytes
        .chunks(80)
        .map(|chunk| BlockHeader::decode(chunk).unwrap())
        .collect();
    assert_eq!(headers.len(), 100);
    assert_eq!(
        headers[0].hash().to_string(),
        "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    );
    let mut parent = BlockHash::ZERO;
    for (header, chunk) in headers.iter().zip(bytes.chunks(80)) {
        assert_eq!(header.prev, parent);
        assert_eq!(header.encode(), chunk);
        parent = header.hash();
        assert!(header.bits.to_target().unwrap().is_met_by(&parent));
    }
}

#[test]
fn agrees_with_the_wycheproof_file() {
    let Some(folder) = vectors("wycheproof") else {
        return;
    };
    let all = json(&folder.join("rsa_pss_2048_sha256_mgf1_32_test.json"));
    let (mut valid, mut invalid) = (0, 0);
    for group in all["testGroups"].as_array().unwrap() {
        let modulus = hex::decode(group["publicKey"]["modulus"].as_str().unwrap()).unwrap();
        // DER puts a zero byte before a set top bit.
        let key = PublicKey::from_modulus(modulus.strip_prefix(&[0]).unwrap_or(&modulus)).unwrap();
        for case in group["tests"].as_array().unwrap() {
            let message = hex::decode(case["msg"].as_str().unwrap()).unwrap();
            let signature = hex::decode(case["sig"].as_str().unwrap()).unwrap();
            let verifies = signature
                .try_into()
                .is_ok_and(|bytes| key.verifies(&message, &Signature(Box::new(bytes))));
            match case["result"].as_str().unwrap() {
                "valid" => valid += 1,
                "invalid" => invalid += 1,
                other => panic!("undecided result {other}"),
            }
            assert_eq!(verifies, case["result"] == "valid", "{case}");
        }
    }
    assert!(valid > 0 && invalid > 0, "{valid} valid, {invalid} invalid");
}
