//! Debian's packages, where they can be installed without a question: as root.

use anyhow::Result;

use crate::run::{cmd, which};

/// Installs a package; `false` where that is not ours to do.
pub(crate) fn install(package: &str) -> Result<bool> {
    let is_root = cmd("id").arg("-u").output().is_ok_and(|uid| uid.trim() == "0");
    if which("apt-get").is_none() || !is_root {
        return Ok(false);
    }
    let apt = || cmd("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
    apt().args(["update", "--quiet"]).step("Debian's list of packages")?;
    apt().args(["install", "--yes", "--quiet", "--no-install-recommends", package]).step(package)?;
    Ok(true)
}
