//! The Chromium that the browser tests drive.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{apt, run::which};

/// Names that Chromium goes by, on one system or another.
const NAMES: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const MAC: &str = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";

/// Finds Chromium; installs it where that needs no question: on Debian and its kin, as root.
pub(crate) fn ensure() -> Result<PathBuf> {
    if let Some(path) = find() {
        return Ok(path);
    }
    if !apt::install("chromium")? {
        bail!(
            "the browser tests need Chromium, and it is not installed: install it (on Debian as root: `apt-get install \
             chromium`), or set MOORLINE_CHROMIUM to the program's path"
        );
    }
    match find() {
        Some(path) => Ok(path),
        None => bail!("apt-get installed the package chromium, but there is no program of that name"),
    }
}

fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("MOORLINE_CHROMIUM") {
        return Some(path.into());
    }
    let mac = PathBuf::from(MAC);
    NAMES.iter().find_map(|name| which(name)).or_else(|| mac.exists().then_some(mac))
}
