//! `cargo xtask codes`: the registry of codes, from Rust to `npm/src/codes.gen.ts`.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Result, bail};
use moorline_protocol::code::{ALL, Entry};

use crate::{expect_no_more, repo, stamp};

const FILE: &str = "npm/src/codes.gen.ts";

pub(crate) fn command(args: &[String]) -> Result<()> {
    let (check, rest) = match args.split_first() {
        Some((flag, rest)) if flag == "--check" => (true, rest),
        _ => (false, args),
    };
    expect_no_more("codes", rest)?;

    let (path, wanted) = (repo::path(FILE), typescript(ALL));
    if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if check {
        bail!("{FILE} is not what crates/protocol/src/code.rs says; run `cargo xtask codes`");
    }
    stamp::write(&path, wanted)?;
    println!("{FILE}");
    Ok(())
}

fn typescript(codes: &[Entry]) -> String {
    let mut text = String::from(
        "// Generated from crates/protocol/src/code.rs by `cargo xtask codes`. Do not edit.\n\n\
         /** Every code of the protocol: its number on the wire, whether trying again may help, what happened, what to \
         do. */\n\
         export const codes = {\n",
    );
    for Entry { code, name, retryable, summary, remedy, .. } in codes {
        let fields = [
            ("number", code.0.to_string()),
            ("retryable", retryable.to_string()),
            ("text", quoted(summary)),
            ("remedy", quoted(remedy)),
        ];
        let _ = writeln!(text, "  {name}: {{");
        for (field, value) in fields {
            let _ = writeln!(text, "    {field}: {value},");
        }
        text.push_str("  },\n");
    }
    text.push_str(
        "} as const;\n\n/** The stable name of a code of the protocol. */\nexport type Code = keyof typeof codes;\n",
    );
    text
}

/// A JSON string is a TypeScript string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
