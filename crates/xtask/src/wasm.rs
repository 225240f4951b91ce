//! `cargo xtask wasm`: the browser driver, from Rust to `npm/generated/core.js`, `core.d.ts` and `core_bg.wasm`.
//!
//! cargo compiles it, wasm-bindgen's generator (as a library, of the very version that the driver is compiled with)
//! writes the glue, wasm-opt makes it small.
//!
//! What is published is compiled with the standard library from its sources, so that it too is made for size and for a
//! panic that is a bare trap: the library that comes with Rust is neither, and 10 KB more in a page. Cargo has that
//! behind `-Z` only. The compiler is pinned to one version, so what `-Z` means cannot change under us, and nobody but us
//! builds this module. A dev build needs none of it, and tells in words why it panicked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use wasm_bindgen_cli_support::Bindgen;

use crate::run::{Cmd, Progress, cargo, cmd};
use crate::stamp::{Inputs, Stamp};
use crate::{expect_no_more, glue, node, repo};

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
const PACKAGE: &str = "moorline-client-wasm";
const ARTIFACT: &str = "moorline_client_wasm.wasm";

/// What rustc's target turns on, and wasm-opt's names for it. wasm-opt may use these and nothing more: what it writes
/// with all its features on does not load in Node 20.
const FEATURES: &[(&str, &[&str])] = &[
    ("bulk-memory", &["--enable-bulk-memory", "--enable-bulk-memory-opt"]),
    ("multivalue", &["--enable-multivalue"]),
    ("mutable-globals", &["--enable-mutable-globals"]),
    ("nontrapping-fptoint", &["--enable-nontrapping-float-to-int"]),
    ("reference-types", &["--enable-reference-types"]),
    ("sign-ext", &["--enable-sign-ext"]),
];

/// Compiles the standard library too.
const STD: &[&str] = &["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"];

/// A panic says nothing before it traps, so nothing needs to be there to say.
const BARE: &[&str] = &["-Zunstable-options", "-Cpanic=immediate-abort", "-Zlocation-detail=none", "-Zfmt-debug=none"];

/// How wasm-opt makes it small. What counts is the size after gzip: functions that stay apart and stand beside their
/// like compress better than large ones merged into their only caller, and jumps laid out anew better than LLVM's.
const SMALL: &[&str] = &[
    "--one-caller-inline-max-function-size",
    "30",
    "--flatten",
    "--rereloop",
    "-Oz",
    "-Oz",
    "--low-memory-unused",
    "--reorder-functions-by-name",
    "--strip-debug",
    "--strip-producers",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Build {
    /// What is published: small.
    Release,
    /// Quick to make, with names in its stack traces.
    Dev,
}

pub(crate) fn command(args: &[String]) -> Result<()> {
    let (build, rest) = match args.split_first() {
        Some((flag, rest)) if flag == "--dev" => (Build::Dev, rest),
        _ => (Build::Release, args),
    };
    expect_no_more("wasm", rest)?;
    make(build)?;
    println!("{}", repo::shown(&wasm_file()));
    Ok(())
}

/// The finished module.
pub(crate) fn wasm_file() -> PathBuf {
    generated().join("core_bg.wasm")
}

fn generated() -> PathBuf {
    repo::path("npm/generated")
}

/// Makes `npm/generated/`, unless it is up to date.
pub(crate) fn make(build: Build) -> Result<()> {
    let bindgen = check_bindgen_version()?;
    let compiled = compile(build)?;

    let tools = repo::path("crates/xtask/npm");
    let inputs = Inputs::new()
        .value(build)
        .value(bindgen)
        .value([include_str!("wasm.rs"), include_str!("glue.rs")])
        .file(&tools.join("package-lock.json"))?
        .file(&compiled)?;
    let stamp = Stamp::named("wasm", inputs);
    let outputs = ["core.js", "core.d.ts", "core_bg.wasm"].map(|name| generated().join(name));
    if stamp.is_fresh(&outputs) {
        return Ok(());
    }

    bind(&compiled, build)?;
    if build == Build::Release {
        node::install(&tools)?;
        optimise(&wasm_file(), node::tool(&tools, "wasm-opt")?)?;
    }
    stamp.write()
}

/// Sees to it that the target's standard library is there; rustup may have been told not to install by itself.
pub(crate) fn ensure_target() -> Result<()> {
    if rustlib()?.join(TARGET).join("lib").exists() {
        return Ok(());
    }
    cmd("rustup").args(["target", "add", TARGET]).step(&format!("the target {TARGET}")).with_context(|| {
        format!("Rust's target {TARGET} is missing and rustup did not install it; install it as your Rust came")
    })
}

/// Sees to it that the standard library's sources are there, and tells where.
fn ensure_rust_src() -> Result<PathBuf> {
    let sources = rustlib()?.join("src/rust");
    if !sources.join("library/std").exists() {
        cmd("rustup").args(["component", "add", "rust-src"]).step("the standard library's sources").context(
            "Rust's component rust-src is missing and rustup did not install it; install it as your Rust came",
        )?;
    }
    Ok(sources)
}

fn rustlib() -> Result<PathBuf> {
    let sysroot = cmd("rustc").args(["--print", "sysroot"]).output()?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib"))
}

fn compile(build: Build) -> Result<PathBuf> {
    let build_package = cargo("build").args(["--package", PACKAGE, "--target", TARGET]);
    let mut flags = short_paths()?;
    let (build_package, folder) = match build {
        Build::Release => {
            flags.push(remap(&ensure_rust_src()?, "rust"));
            flags.extend(BARE.iter().map(|flag| (*flag).to_owned()));
            (build_package.args(["--profile", "wasm"]).args(STD).env("RUSTC_BOOTSTRAP", "1"), "wasm")
        }
        Build::Dev => {
            ensure_target()?;
            (build_package.args(["--profile", "dev"]), "debug")
        }
    };
    build_package.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")).step("the browser driver, compiled")?;
    Ok(repo::target().join(TARGET).join(folder).join(ARTIFACT))
}

/// The places of panics stand in the module with the paths of the sources: short ones, and not those of this machine.
fn short_paths() -> Result<Vec<String>> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir().context("there is no home directory")?.join(".cargo"),
    };
    Ok(vec![remap(&cargo_home.join("registry/src"), "crates"), remap(&repo::path(""), ".")])
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

fn bind(compiled: &Path, build: Build) -> Result<()> {
    let progress = Progress::start("the browser driver, bound");
    let debug = build == Build::Dev;
    let mut output = Bindgen::new()
        .input_path(compiled)
        .out_name("core")
        .web(true)?
        .typescript(true)
        .omit_default_module_path(true)
        .keep_debug(debug)
        .remove_name_section(!debug)
        .remove_producers_section(true)
        .generate_output()
        .context("wasm-bindgen refuses the compiled driver")?;

    let foreign: Vec<_> = output
        .wasm()
        .imports
        .iter()
        .filter(|import| import.module == "env")
        .map(|import| import.name.clone())
        .collect();
    ensure!(foreign.is_empty(), "the browser driver imports from \"env\", which no page has: {}", foreign.join(", "));

    let mut names = BTreeMap::new();
    if build == Build::Release {
        glue::drop_dead_closures(output.wasm_mut());
        names = glue::shorten_names(output.wasm_mut());
    }
    if generated().exists() {
        fs::remove_dir_all(generated()).context("emptying npm/generated")?;
    }
    output.emit(generated()).context("writing npm/generated")?;
    for file in ["core.js", "core.d.ts", "core_bg.wasm.d.ts"].map(|name| generated().join(name)) {
        let text = fs::read_to_string(&file).context("reading npm/generated")?;
        fs::write(&file, glue::renamed(&text, &names)).context("writing npm/generated")?;
    }
    progress.done();
    Ok(())
}

fn optimise(module: &Path, wasm_opt: Cmd) -> Result<()> {
    check_features()?;
    let small = module.with_extension("small");
    let flags = FEATURES.iter().flat_map(|(_, flags)| flags.iter());
    wasm_opt.args(SMALL).args(flags).arg(module).arg("-o").arg(&small).step("the browser driver, made small")?;
    fs::rename(&small, module).context("replacing the module by the small one")
}

/// A new rustc may turn on more; then [`FEATURES`] must say what wasm-opt calls it.
fn check_features() -> Result<()> {
    let cfg = cmd("rustc").args(["--print", "cfg", "--target", TARGET]).output()?;
    let emitted: BTreeSet<&str> =
        cfg.lines().filter_map(|line| line.strip_prefix("target_feature=\"")?.strip_suffix('"')).collect();
    let known: BTreeSet<&str> = FEATURES.iter().map(|(name, _)| *name).collect();
    ensure!(
        emitted == known,
        "rustc emits the features {emitted:?} for {TARGET}, FEATURES in crates/xtask/src/wasm.rs lists {known:?}"
    );
    Ok(())
}

/// wasm-bindgen (compiled into the driver) and its generator (compiled into us) must be one version.
pub(crate) fn check_bindgen_version() -> Result<String> {
    let lock = fs::read_to_string(repo::path("Cargo.lock")).context("reading Cargo.lock")?;
    same_version(&lock, "wasm-bindgen", "wasm-bindgen-cli-support")
}

fn same_version(lock: &str, library: &str, generator: &str) -> Result<String> {
    let versions = |name: &str| -> Vec<&str> {
        let line = format!("name = \"{name}\"");
        lock.lines()
            .zip(lock.lines().skip(1))
            .filter(|(first, _)| *first == line)
            .filter_map(|(_, second)| second.strip_prefix("version = \"")?.strip_suffix('"'))
            .collect()
    };
    match (&*versions(library), &*versions(generator)) {
        ([one], [other]) if one == other => Ok((*one).to_owned()),
        (ours, theirs) => bail!(
            "{library} is {ours:?} in Cargo.lock and {generator} is {theirs:?}: they must be one and the same version, \
             pinned with `=` in the root Cargo.toml"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_of_another_version_is_refused() {
        let lock = |generator: &str| {
            format!(
                "[[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\n\n\
                 [[package]]\nname = \"wasm-bindgen-cli-support\"\nversion = \"{generator}\"\n"
            )
        };
        let check = |lock: &str| same_version(lock, "wasm-bindgen", "wasm-bindgen-cli-support");
        assert_eq!(check(&lock("0.2.130")).ok().as_deref(), Some("0.2.130"));
        assert!(check(&lock("0.2.129")).is_err());
        assert!(check("").is_err());
    }
}
