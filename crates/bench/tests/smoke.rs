//! The bench still works: every case, on every server, with counts that say nothing.

#![cfg(target_os = "linux")]

use std::{error::Error, fs, process::Command};

type TestResult = Result<(), Box<dyn Error>>;

const CASES: [&str; 15] = [
    "call-pipelined",
    "call-single",
    "fan-out-paced",
    "fan-out-saturated",
    "topic-paced",
    "topic-saturated",
    "topic-paced-4k",
    "topic-saturated-4k",
    "durable-1",
    "durable-8",
    "durable-64",
    "connect",
    "connect-burst",
    "resume",
    "idle",
];

fn bench(args: &[&str]) -> Result<(bool, String), Box<dyn Error>> {
    let output = Command::new(env!("CARGO_BIN_EXE_moorline-bench")).args(args).output()?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((output.status.success(), text))
}

#[test]
fn every_case_gives_figures_for_every_server() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("figures.json");
    let (passed, text) = bench(&["--smoke", "--json", file.to_str().ok_or("a path in UTF-8")?])?;
    assert!(passed, "{text}");

    let report: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
    let ratios = report["ratios"].as_object().ok_or("ratios")?;
    assert_eq!(ratios.len(), CASES.len());
    for case in CASES {
        assert!(text.contains(case), "{text}");
        for server in ["raw", "sealed", "plain"] {
            let figures = &report["figures"][case][server];
            assert!(figures["cost"].as_f64().is_some_and(|cost| cost > 0.0), "{case} {server}: {figures}");
            let ratio = ratios[case][server].as_f64();
            assert!(ratio.is_some_and(|ratio| ratio > 0.0) != (server == "raw"), "{case} {server}: {ratio:?}");
            if case != "idle" {
                assert!(figures["per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{case} {server}: {figures}");
            }
            if case.starts_with("durable") {
                assert!(
                    figures["per_commit"].as_f64().is_some_and(|shared| shared > 0.0),
                    "{case} {server}: {figures}"
                );
            }
            if !["idle", "call-pipelined"].contains(&case) && !case.contains("saturated") {
                assert!(figures["p50_us"].as_f64() <= figures["p99_us"].as_f64(), "{case} {server}: {figures}");
                assert!(figures["p50_us"].is_number(), "{case} {server}: {figures}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_ratio_much_worse_than_the_earlier_one_fails_the_run() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("earlier.json");
    for (earlier, expected) in [(0.001, false), (1000.0, true)] {
        fs::write(&file, format!(r#"{{ "ratios": {{ "idle": {{ "sealed": {earlier} }} }} }}"#))?;
        let (passed, text) = bench(&["--smoke", "idle", "--against", file.to_str().ok_or("a path in UTF-8")?])?;
        assert_eq!(passed, expected, "{text}");
        assert_eq!(text.contains("worse than before"), !expected, "{text}");
    }
    Ok(())
}

#[test]
fn the_baseline_has_every_case() -> TestResult {
    let baseline: serde_json::Value = serde_json::from_str(include_str!("../baseline.json"))?;
    let ratios = baseline["ratios"].as_object().ok_or("ratios")?;
    let mut cases = CASES;
    cases.sort_unstable();
    assert!(ratios.keys().eq(cases.iter()), "{ratios:?}");
    Ok(())
}
