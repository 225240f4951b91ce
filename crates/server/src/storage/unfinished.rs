//! A file that is there whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process,
};

use super::StorageError;
use crate::data_dir::private;

/// A file beside the one that it is going to be; it goes with this unless it is finished.
pub(super) struct Unfinished {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Unfinished {
    pub(super) fn new(target: &Path) -> Result<Self, StorageError> {
        let none = || StorageError::Write(io::ErrorKind::InvalidFilename.into());
        let name = target.file_name().ok_or_else(none)?;
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}.part", process::id()));
        let path = target.with_file_name(beside);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        private(&mut options);
        Ok(Self { file: options.open(&path).map_err(StorageError::Write)?, path })
    }

    /// Makes it the target, which it is over a power cut, too. One that is there is replaced only if that is meant.
    pub(super) fn finish(self, target: &Path, replace: bool) -> Result<(), StorageError> {
        self.file.sync_all().map_err(StorageError::Write)?;
        self.put(target, replace)?;
        sync_directory_of(target).map_err(StorageError::Write)
    }

    fn put(&self, target: &Path, replace: bool) -> Result<(), StorageError> {
        if replace {
            return fs::rename(&self.path, target).map_err(StorageError::Write);
        }
        // Unlike renaming, this does not replace one that has come meanwhile.
        match fs::hard_link(&self.path, target) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StorageError::FileExists(target.to_owned()))
            }
            // Some file systems have no links.
            Err(_) => fs::rename(&self.path, target).map_err(StorageError::Write),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Where it was renamed there is none.
        let _ = fs::remove_file(&self.path);
    }
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    // Elsewhere a directory is no file to open.
    if !cfg!(unix) {
        return Ok(());
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
