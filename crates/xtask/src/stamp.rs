//! Tells whether work is up to date: a stamp keeps the hash of everything that the work was made from.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::repo;

/// The hash of what some work is made from.
pub(crate) struct Inputs(DefaultHasher);

impl Inputs {
    pub(crate) fn new() -> Self {
        Self(DefaultHasher::new())
    }

    pub(crate) fn value(mut self, value: impl Hash) -> Self {
        value.hash(&mut self.0);
        self
    }

    pub(crate) fn file(mut self, path: &Path) -> Result<Self> {
        repo::shown(path).hash(&mut self.0);
        fs::read(path).with_context(|| format!("reading {}", repo::shown(path)))?.hash(&mut self.0);
        Ok(self)
    }

    /// Every file below a folder, save below folders of the names in `except`.
    pub(crate) fn folder(mut self, folder: &Path, except: &[&str]) -> Result<Self> {
        for file in files(folder, except)? {
            self = self.file(&file)?;
        }
        Ok(self)
    }
}

/// Remembers the inputs that some outputs were made from.
pub(crate) struct Stamp {
    file: PathBuf,
    hash: String,
}

impl Stamp {
    /// A stamp kept in `file`.
    pub(crate) fn new(file: PathBuf, inputs: Inputs) -> Self {
        Self { file, hash: format!("{:016x}", inputs.0.finish()) }
    }

    /// A stamp kept in the target directory.
    pub(crate) fn named(name: &str, inputs: Inputs) -> Self {
        Self::new(repo::target().join("xtask").join(format!("{name}.stamp")), inputs)
    }

    /// Whether all outputs exist and were made from these inputs.
    pub(crate) fn is_fresh(&self, outputs: &[PathBuf]) -> bool {
        outputs.iter().all(|path| path.exists()) && fs::read_to_string(&self.file).is_ok_and(|kept| kept == self.hash)
    }

    /// To be called when the outputs are made.
    pub(crate) fn write(&self) -> Result<()> {
        write(&self.file, &self.hash)
    }
}

/// Writes a file and the folders above it.
pub(crate) fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", repo::shown(folder)))?;
    }
    fs::write(path, contents).with_context(|| format!("writing {}", repo::shown(path)))
}

/// The files below a folder in a steady order, save below folders of the names in `except`.
pub(crate) fn files(folder: &Path, except: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", repo::shown(folder)))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !except.contains(&&*name) {
                found.extend(files(&path, except)?);
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_input_or_a_missing_output_makes_it_stale() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("xtask-stamp-{}", std::process::id()));
        let (kept, output) = (folder.join("stamp"), folder.join("output"));
        let stamp = |value: u32| Stamp::new(kept.clone(), Inputs::new().value(value));

        assert!(!stamp(1).is_fresh(&[]));
        write(&output, "made")?;
        stamp(1).write()?;
        assert!(stamp(1).is_fresh(std::slice::from_ref(&output)));
        assert!(!stamp(2).is_fresh(std::slice::from_ref(&output)));
        assert!(!stamp(1).is_fresh(&[folder.join("missing")]));

        fs::remove_dir_all(folder)?;
        Ok(())
    }
}
