//! The control socket of a server that runs: that it is asked by its own user and nobody else.

#![cfg(unix)]

use std::{
    env,
    error::Error,
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
    time::Duration,
};

use moorline_server::{Config, Server, control::socket_path};
use tempfile::TempDir;

type TestResult<T = ()> = Result<T, Box<dyn Error>>;

/// Names the socket for the process that asks as another user.
const SOCKET: &str = "MOORLINE_TEST_CONTROL_SOCKET";

/// Somebody with no rights, on every system.
const NOBODY: u32 = 65_534;

/// Not a test by itself: what the process of the test below does, which is this program again. It panics where it cannot
/// even connect, so that a test that has shown nothing does not pass.
#[test]
fn asks_the_socket_that_the_environment_names() {
    let Some(path) = env::var_os(SOCKET) else { return };
    let mut socket = UnixStream::connect(path).expect("it can connect");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket has a timeout");
    // Who is not answered may find the socket closed already.
    let _ = socket.write_all(b"{\"version\":1,\"request\":\"status\"}\n");
    let mut byte = [0];
    let answered = matches!(socket.read(&mut byte), Ok(1));
    println!("answered: {answered}");
}

/// Whether this program, run by this user, gets an answer.
fn asked(program: &Path, socket: &Path, user: Option<u32>) -> TestResult<bool> {
    let mut command = Command::new(program);
    command.args(["--exact", "asks_the_socket_that_the_environment_names", "--nocapture"]).env(SOCKET, socket);
    command.current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match (output.status.success(), text.contains("answered: true"), text.contains("answered: false")) {
        (true, true, false) => Ok(true),
        (true, false, true) => Ok(false),
        _ => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Only root can be somebody else. Elsewhere the unit test of the rule has to do.
#[tokio::test(flavor = "multi_thread")]
async fn another_user_is_not_answered_even_where_the_sockets_mode_lets_him_in() -> TestResult {
    let directory = TempDir::new()?;
    let mut config = Config::default();
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.server.data_dir = directory.path().join("data");
    let server = Server::builder().config(config).control().build().await?;
    let data_dir = directory.path().join("data");
    let socket = socket_path(&data_dir);
    if fs::metadata(&socket)?.uid() != 0 {
        return Ok(());
    }
    // What the modes keep out is not what is tested here.
    for (path, mode) in [(directory.path(), 0o755), (&data_dir, 0o755), (&socket, 0o666)] {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    // Where this program is, another user need not have a way to.
    let program = directory.path().join("asker");
    fs::copy(env::current_exe()?, &program)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let (mine, other) = tokio::task::spawn_blocking(move || {
        let ask = |user| asked(&program, &socket, user).map_err(|error| error.to_string());
        (ask(None), ask(Some(NOBODY)))
    })
    .await?;
    assert_eq!((mine, other), (Ok(true), Ok(false)));
    drop(server);
    Ok(())
}
