//! `cargo xtask size`: what a page downloads, beside what it may.

use anyhow::{Context, Result, bail};

use crate::{expect_no_more, node, pack, repo, wasm};

/// A thousand bytes, as everywhere in our documents.
const KB: u64 = 1000;

/// The budgets, in bytes after gzip. An issue raises one only to its own step.
const BUDGET: Budget = Budget {
    // The step for what there is now: sessions that resume, streams, who somebody is, and channels. Then 95 with feeds and
    // state.
    wasm: 86_500,
    // 20.8 with topics, and 28.2 with stores: the queue on the disk, whose patches are whose, values and their hashes.
    javascript: 28_500,
};

/// The client that people compare with, in KB after gzip; see the table of sizes in README.md.
const SOCKET_IO: &str = "13.0";

struct Budget {
    wasm: u64,
    javascript: u64,
}

/// One file in bytes.
struct Size {
    raw: u64,
    gzip: u64,
    brotli: u64,
}

pub(crate) fn command(args: &[String]) -> Result<()> {
    expect_no_more("size", args)?;
    pack::make()?;
    let (wasm, javascript) = measure()?;

    println!("{:26}{:>10}{:>10}{:>12}{:>18}", "", "raw", "gzip -9", "brotli -11", "budget for gzip");
    for (name, size, budget) in
        [("WebAssembly", &wasm, BUDGET.wasm), ("JavaScript, minified", &javascript, BUDGET.javascript)]
    {
        println!("{name:26}{:>10}{:>10}{:>12}{:>18}", kb(size.raw), kb(size.gzip), kb(size.brotli), kb(budget));
    }
    let (raw, gzip, brotli) = (wasm.raw + javascript.raw, wasm.gzip + javascript.gzip, wasm.brotli + javascript.brotli);
    println!("{:26}{:>10}{:>10}{:>12}", "together", kb(raw), kb(gzip), kb(brotli));
    println!("{:26}{:>10}{SOCKET_IO:>10}{:>12}\n", "Socket.IO 4.8 beside it", "", "");
    println!("KB of 1,000 bytes. The JavaScript is everything that the entry \"moorline\" exports to a browser.");

    let over = over_budget(&BUDGET, wasm.gzip, javascript.gzip);
    if !over.is_empty() {
        bail!("over budget: {}; budgets are in crates/xtask/src/size.rs", over.join(" and "));
    }
    Ok(())
}

fn measure() -> Result<(Size, Size)> {
    let npm = pack::folder();
    let package = node::json(&npm.join("package.json"))?;
    let entry = package["exports"]["."]["browser"]
        .as_str()
        .context("npm/package.json names no file for exports → \".\" → \"browser\"")?;
    let bundle = repo::target().join("xtask/size/moorline.js");
    node::tool(&npm, "esbuild")?
        .arg(npm.join(entry))
        .args(["--bundle", "--minify", "--format=esm", "--platform=browser", "--target=es2022", "--external:node:*"])
        .args(["--log-level=warning", &format!("--outfile={}", bundle.display())])
        .output()?;

    let sizes =
        node::node().arg(repo::path("crates/xtask/compress.mjs")).arg(wasm::wasm_file()).arg(&bundle).output()?;
    let sizes: Vec<[u64; 3]> = serde_json::from_str(&sizes).context("reading what compress.mjs printed")?;
    let mut sizes = sizes.into_iter().map(|[raw, gzip, brotli]| Size { raw, gzip, brotli });
    sizes.next().zip(sizes.next()).context("compress.mjs measured fewer files than it was given")
}

fn over_budget(budget: &Budget, wasm: u64, javascript: u64) -> Vec<String> {
    [("the WebAssembly", wasm, budget.wasm), ("the JavaScript", javascript, budget.javascript)]
        .into_iter()
        .filter(|(_, size, budget)| size > budget)
        .map(|(name, size, budget)| format!("{name} has {} of {} KB", kb(size), kb(budget)))
        .collect()
}

fn kb(bytes: u64) -> String {
    format!("{}.{}", bytes / KB, bytes % KB / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_over_budget_is_over() {
        let budget = Budget { wasm: 60 * KB, javascript: 15 * KB };
        assert!(over_budget(&budget, 60 * KB, 15 * KB).is_empty());
        assert_eq!(over_budget(&budget, 60 * KB + 1, 15 * KB + 1).len(), 2);
    }

    #[test]
    fn a_kb_is_a_thousand_bytes() {
        assert_eq!(kb(13_049), "13.0");
    }
}
