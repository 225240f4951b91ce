//! The file of the private keys.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use moorline_protocol::{
    entropy::Entropy,
    key::{Identity, StaticKey},
};
use zeroize::Zeroizing;

use super::{IdentityError, InvalidPrivateKey, Origin, text};
use crate::data_dir;

/// What is read of a file that should be one short line: enough for comments, not for a wrong path to a huge file.
const MOST: u64 = 64 * 1024;

const HEAD: &str = "# The private key of a Moorline server. Who has it can pose as the server. Keep it secret, and keep a\n\
                    # copy: pages that pin its public half (moorline identity show) accept no other. During a rotation\n\
                    # there are two or three; \"next\" and \"previous\" stand before those that are not the current one.\n";

/// Reads the identity of a key file, whoever can read it: for a program that only shows its public half.
///
/// # Errors
/// When it is missing, cannot be read, or is damaged.
pub fn read_file(path: impl AsRef<Path>) -> Result<Identity, IdentityError> {
    let path = path.as_ref();
    read(path, open(path)?)
}

/// Reads the server's own key file, which must be its owner's alone.
pub(super) fn read_own(path: &Path) -> Result<Identity, IdentityError> {
    let file = open(path)?;
    refuse_readable_by_others(path, &file)?;
    read(path, file)
}

fn open(path: &Path) -> Result<File, IdentityError> {
    File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => IdentityError::Missing { path: path.to_owned() },
        _ => IdentityError::Read { path: path.to_owned(), source },
    })
}

fn read(path: &Path, file: File) -> Result<Identity, IdentityError> {
    let invalid = |error| IdentityError::InvalidFile { path: path.to_owned(), error };
    let mut bytes = Zeroizing::new(Vec::new());
    let read = file.take(MOST).read_to_end(&mut bytes);
    read.map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
    let lines = std::str::from_utf8(&bytes).map_err(|_| invalid(InvalidPrivateKey::NotText))?;
    text::from_lines(lines).map_err(invalid)
}

/// Asks the open file, so that what is checked is what is read.
#[cfg(unix)]
fn refuse_readable_by_others(path: &Path, file: &File) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt as _;

    let metadata = file.metadata().map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(IdentityError::ReadableByOthers { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_readable_by_others(_: &Path, _: &File) -> Result<(), IdentityError> {
    Ok(())
}

/// Puts a new key into its file. It is written beside it first and appears there whole; where another process was
/// faster, its key is taken.
pub(super) fn create(path: &Path, key: &StaticKey, entropy: &mut Entropy) -> Result<(Identity, Origin), IdentityError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    data_dir::make(directory).map_err(|source| IdentityError::Directory { path: directory.to_owned(), source })?;
    let temporary = Temporary(directory.join(format!(".identity-{:016x}", u64::from_le_bytes(entropy.array()))));
    let identity = Identity::new(key.clone());
    let written = write(&temporary.0, &identity).and_then(|()| put_in_place(&temporary.0, path));
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return read_own(path).map(|identity| (identity, Origin::File));
        }
        Err(source) => return Err(IdentityError::Write { path: path.to_owned(), source }),
    }
    sync(directory);
    Ok((identity, Origin::Created))
}

/// Puts these keys in the place of those in the file, which is kept beside it as `….backup`. Whoever reads, and a machine
/// that loses its power, finds the old file or the new one, whole.
pub(super) fn replace(path: &Path, identity: &Identity, entropy: &mut Entropy) -> Result<(), IdentityError> {
    let failed = |source| IdentityError::Write { path: path.to_owned(), source };
    // Where the name is a link, the file behind it is what is meant.
    let real = fs::canonicalize(path).map_err(failed)?;
    let directory = real.parent().unwrap_or(Path::new("."));
    let mut beside = || Temporary(directory.join(format!(".identity-{:016x}", u64::from_le_bytes(entropy.array()))));
    let (new, old) = (beside(), beside());
    write(&new.0, identity)
        .and_then(|()| keep(&real, &old.0))
        .and_then(|()| fs::rename(&old.0, backup(&real)))
        .and_then(|()| fs::rename(&new.0, &real))
        .map_err(failed)?;
    sync(directory);
    Ok(())
}

/// Where the file goes that is replaced.
pub(super) fn backup(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".backup");
    name.into()
}

/// The same file under another name; a copy of it where the file system has no hard links.
fn keep(path: &Path, name: &Path) -> io::Result<()> {
    fs::hard_link(path, name).or_else(|_| {
        let mut text = Zeroizing::new(Vec::new());
        File::open(path)?.take(MOST).read_to_end(&mut text)?;
        write_new(name, &text)
    })
}

/// A name is in its directory, which reaches the disk on its own. Not every system lets one ask for that.
fn sync(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

/// A file that is gone at the end, whatever happens.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed or never made: then there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

fn write(path: &Path, identity: &Identity) -> io::Result<()> {
    write_new(path, Zeroizing::new(format!("{HEAD}{}", *text::to_lines(identity))).as_bytes())
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    data_dir::private(&mut options);
    let mut file = options.open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// A hard link fails where the name is taken, a rename would replace it. Some file systems have no hard links; there a
/// rename has to do.
fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::rename(temporary, path),
        linked => linked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        identity::{Rotation, backup_of, load, load_or_create, rotate, to_text},
    };

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn config(data_dir: &Path) -> Config {
        let mut config = Config::default();
        config.server.data_dir = data_dir.to_owned();
        config
    }

    fn text_of(error: Option<IdentityError>) -> String {
        error.map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_key_is_made_once_and_stays() -> TestResult {
        let dir = tempfile::tempdir()?;
        let config = config(&dir.path().join("deep/data"));
        assert!(matches!(load(&config), Err(IdentityError::Missing { .. })));
        let (made, origin) = load_or_create(&config, &mut Entropy::new([1; 32]))?;
        assert_eq!(origin, Origin::Created);
        let (again, origin) = load_or_create(&config, &mut Entropy::new([2; 32]))?;
        assert_eq!(origin, Origin::File);
        assert!(made.public_keys().eq(again.public_keys()));
        assert!(read_file(config.key_file())?.public_keys().eq(made.public_keys()));
        assert_eq!(fs::read_dir(&config.server.data_dir)?.count(), 1);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_key_and_directory() -> TestResult {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir()?;
        let config = config(&dir.path().join("deep/data"));
        load_or_create(&config, &mut Entropy::new([1; 32]))?;
        let mode = |path: &Path| Ok::<_, io::Error>(fs::metadata(path)?.permissions().mode() & 0o777);
        assert_eq!(mode(&config.key_file())?, 0o600);
        assert_eq!(mode(&config.server.data_dir)?, 0o700);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() -> TestResult {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir()?;
        let config = config(dir.path());
        load_or_create(&config, &mut Entropy::new([1; 32]))?;
        for (mode, shown) in [(0o644, "0644"), (0o640, "0640"), (0o602, "0602")] {
            fs::set_permissions(config.key_file(), fs::Permissions::from_mode(mode))?;
            let error = text_of(load_or_create(&config, &mut Entropy::new([1; 32])).err());
            let remedy = format!("chmod 600 {}", config.key_file().display());
            assert!(error.contains(shown) && error.ends_with(&remedy), "{error}");
        }
        assert!(read_file(config.key_file()).is_ok());
        fs::set_permissions(config.key_file(), fs::Permissions::from_mode(0o400))?;
        assert!(load(&config).is_ok());
        Ok(())
    }

    #[test]
    fn a_damaged_key_is_named_and_never_replaced() -> TestResult {
        let dir = tempfile::tempdir()?;
        let config = config(dir.path());
        load_or_create(&config, &mut Entropy::new([1; 32]))?;
        let text = fs::read_to_string(config.key_file())?;
        let cut = &text[..text.len() - 3];
        fs::write(config.key_file(), cut)?;
        let error = text_of(load_or_create(&config, &mut Entropy::new([1; 32])).err());
        assert!(error.contains("is not complete") && error.contains("put a backup"), "{error}");
        assert_eq!(fs::read_to_string(config.key_file())?, cut);
        fs::write(config.key_file(), [0xff, 0xfe])?;
        assert!(text_of(load(&config).err()).contains("it is not text"));
        fs::write(config.key_file(), "")?;
        assert!(text_of(load(&config).err()).contains("it is empty"));
        Ok(())
    }

    #[test]
    fn a_rotation_replaces_the_file_whole_and_keeps_the_one_before() -> TestResult {
        let dir = tempfile::tempdir()?;
        let config = config(dir.path());
        let mut entropy = Entropy::new([1; 32]);
        let keys = |identity: &Identity| identity.public_keys().collect::<Vec<_>>();
        let (first, _) = load_or_create(&config, &mut entropy)?;
        for rotation in [Rotation::Next, Rotation::Promote, Rotation::Retire] {
            let before = keys(&load(&config)?.0);
            let after = rotate(&config, rotation, &mut entropy)?;
            assert_eq!(keys(&load(&config)?.0), keys(&after));
            // 0600 as well, or it would not be taken.
            let backup = backup_of(&config.key_file());
            assert_eq!(keys(&read_own(&backup)?), before, "{rotation:?}");
            assert_eq!(fs::read_dir(dir.path())?.count(), 2, "nothing else is left");
        }
        assert_ne!(keys(&load(&config)?.0), keys(&first));
        Ok(())
    }

    #[test]
    fn a_step_that_is_out_of_order_or_meets_a_damaged_file_changes_nothing() -> TestResult {
        let dir = tempfile::tempdir()?;
        let config = config(dir.path());
        let mut entropy = Entropy::new([1; 32]);
        load_or_create(&config, &mut entropy)?;
        let text = fs::read_to_string(config.key_file())?;
        assert!(text_of(rotate(&config, Rotation::Retire, &mut entropy).err()).contains("no previous key"));
        assert_eq!(fs::read_to_string(config.key_file())?, text);
        fs::write(config.key_file(), &text[..text.len() - 3])?;
        assert!(text_of(rotate(&config, Rotation::Next, &mut entropy).err()).contains("is not complete"));
        assert_eq!(fs::read_to_string(config.key_file())?, text[..text.len() - 3]);
        assert!(!backup_of(&config.key_file()).exists());
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn where_the_key_file_is_a_link_the_file_behind_it_is_replaced() -> TestResult {
        let dir = tempfile::tempdir()?;
        let mut config = config(dir.path());
        let mut entropy = Entropy::new([1; 32]);
        load_or_create(&config, &mut entropy)?;
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(config.key_file(), &link)?;
        config.identity.key_file = Some(link.clone());
        rotate(&config, Rotation::Next, &mut entropy)?;
        assert!(link.is_symlink());
        config.identity.key_file = None;
        assert_eq!(load(&config)?.0.public_keys().count(), 2);
        Ok(())
    }

    #[test]
    fn of_two_that_start_at_once_the_first_one_s_key_is_the_server_s() -> TestResult {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("identity");
        let (one, two) = (StaticKey::from_private([1; 32]), StaticKey::from_private([2; 32]));
        let mut entropy = Entropy::new([1; 32]);
        assert_eq!(create(&path, &one, &mut entropy)?.1, Origin::Created);
        let (identity, origin) = create(&path, &two, &mut entropy)?;
        assert_eq!((identity.public_keys().next(), origin), (Some(one.public()), Origin::File));
        assert!(fs::read_to_string(&path)?.contains(to_text(&one).as_str()));
        Ok(())
    }

    #[test]
    fn a_directory_that_cannot_be_made_or_written_is_named_with_the_remedy() -> TestResult {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("file");
        fs::write(&file, "")?;
        let error = text_of(
            create(&file.join("data/identity"), &StaticKey::from_private([1; 32]), &mut Entropy::new([1; 32])).err(),
        );
        assert!(error.contains("cannot be made") && error.contains("--data-dir"), "{error}");
        let mut config = config(dir.path());
        config.identity.key_file = Some(dir.path().to_owned());
        assert!(text_of(load(&config).err()).contains("cannot be read"));
        Ok(())
    }
}
