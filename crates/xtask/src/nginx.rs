//! The nginx that stands before the server in the browser tests.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{apt, run::which};

/// Where it is when the path of a user does not lead to what administrators run.
const PLACES: &[&str] = &["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/opt/homebrew/bin/nginx"];

/// Finds nginx; installs it where that needs no question: on Debian and its kin, as root.
pub(crate) fn ensure() -> Result<PathBuf> {
    if let Some(path) = find() {
        return Ok(path);
    }
    if !apt::install("nginx")? {
        bail!(
            "the browser tests need nginx, and it is not installed: install it (on Debian as root: `apt-get install \
             nginx`), or set MOORLINE_NGINX to the program's path"
        );
    }
    match find() {
        Some(path) => Ok(path),
        None => bail!("apt-get installed the package nginx, but there is no program of that name"),
    }
}

fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("MOORLINE_NGINX") {
        return Some(path.into());
    }
    which("nginx").or_else(|| PLACES.iter().map(PathBuf::from).find(|path| path.exists()))
}
