//! Where things are in the repository.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable when it runs us, so a moved repository with an old target directory still works.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.ancestors().nth(2).map(Path::to_path_buf).unwrap_or(manifest)
}

/// A path in the repository, from its root.
pub(crate) fn path(relative: &str) -> PathBuf {
    root().join(relative)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| path("target"), |dir| root().join(dir))
}

/// A path as a person at the repository's root would write it.
pub(crate) fn shown(path: &Path) -> String {
    let shown = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    if shown.is_empty() { ".".into() } else { shown }
}

/// What cargo builds and tests on this machine: not the browser's driver, which is for wasm32, and not us; together
/// with us the shared dependencies get other features and everything would be built a second time. Nor the simulation,
/// whose feature `testing` no other crate may get.
pub(crate) const NATIVE: &[&str] =
    &["--workspace", "--exclude", "moorline-client-wasm", "--exclude", "xtask", "--exclude", SIM];

pub(crate) const SIM: &str = "moorline-sim";
