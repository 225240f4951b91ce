//! `cargo xtask codes`: the registry of codes, from Rust to `npm/src/codes.gen.ts` and the table in `docs/PROTOCOL.md`.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};
use moorline_protocol::code::{ALL, Entry};

use crate::{expect_no_more, repo, stamp};

const GENERATED: &str = "npm/src/codes.gen.ts";
const PAGE: &str = "docs/PROTOCOL.md";
/// The head of the table in [`PAGE`]; its rows go on until an empty line.
const TABLE: &str = "| code | name | retry | meaning | remedy |\n|---|---|---|---|---|\n";

pub(crate) fn command(args: &[String]) -> Result<()> {
    let (check, rest) = match args.split_first() {
        Some((flag, rest)) if flag == "--check" => (true, rest),
        _ => (false, args),
    };
    expect_no_more("codes", rest)?;

    let page = fs::read_to_string(repo::path(PAGE)).with_context(|| format!("reading {PAGE}"))?;
    for (file, wanted) in [(GENERATED, typescript(ALL)), (PAGE, with_table(&page, ALL)?)] {
        let path = repo::path(file);
        if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
            continue;
        }
        if check {
            bail!("{file} is not what crates/protocol/src/code.rs says; run `cargo xtask codes`");
        }
        stamp::write(&path, wanted)?;
        println!("{file}");
    }
    Ok(())
}

/// The page with the table as it should be.
fn with_table(page: &str, codes: &[Entry]) -> Result<String> {
    let (above, rest) = page.split_once(TABLE).with_context(|| format!("{PAGE} has no table of codes"))?;
    let end = rest.find("\n\n").with_context(|| format!("nothing follows the table of codes in {PAGE}"))?;
    let mut text = [above, TABLE].concat();
    for Entry { code, name, retryable, summary, remedy, .. } in codes {
        let (retry, [summary, remedy]) =
            (if *retryable { "yes" } else { "no" }, [summary, remedy].map(|text| cell(text)));
        let _ = writeln!(text, "| {} | `{name}` | {retry} | {summary} | {remedy} |", code.0);
    }
    Ok(text + &rest[end + 1..])
}

/// A text within a table of Markdown.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_drifted_is_written_anew_and_nothing_around_it_changes() -> Result<()> {
        let codes = &ALL[..2];
        let row = |Entry { code, name, summary, remedy, .. }: &Entry| {
            format!("| {} | `{name}` | no | {} | {} |\n", code.0, cell(summary), cell(remedy))
        };
        let right = format!("Above.\n\n{TABLE}{}{}\nBelow.\n\n", row(&codes[0]), row(&codes[1]));
        assert_eq!(with_table(&right, codes)?, right);
        for drifted in [
            right.replace("| no |", "| yes |"),
            right.replace(&row(&codes[1]), ""),
            right.replace(TABLE, &[TABLE, "| 1 |\n"].concat()),
        ] {
            assert_ne!(drifted, right);
            assert_eq!(with_table(&drifted, codes)?, right);
        }
        assert!(with_table("No table.", codes).is_err());
        Ok(())
    }

    #[test]
    fn a_bar_in_a_text_does_not_end_its_cell() {
        assert_eq!(cell("a|b"), "a\\|b");
    }
}
