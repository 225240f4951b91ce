//! The flood of `tests/tests/flood.rs`: `flooder ADDRESS SOCKETS` sends bad handshakes from a few addresses of this machine
//! at the rate that it gives, and holds so many sockets open that say nothing, until its standard input ends. Then it
//! prints, as JSON, its bad handshakes, how often it was refused, and how many sockets it left alone.

use std::{
    error::Error,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use moorline_protocol::record::SUBPROTOCOL;
use moorline_tests::raw::connect_from;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// Where the flood comes from; each address with so many sockets at once.
const FLOODERS: [Ipv4Addr; 3] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3), Ipv4Addr::new(127, 0, 0, 4)];
const AT_ONCE: usize = 4;

/// Where the sockets come from that are left alone.
const SLEEPER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, half_open] = &arguments[..] else { return Err("flooder ADDRESS SOCKETS".into()) };
    let (server, half_open): (SocketAddr, usize) = (server.parse()?, half_open.parse()?);
    let (counts, mut attack) = (Arc::new(Counts::default()), JoinSet::new());
    for source in FLOODERS {
        for _ in 0..AT_ONCE {
            attack.spawn(flood(source, server, counts.clone()));
        }
    }
    for _ in 0..half_open {
        attack.spawn(sleep_on(server, counts.clone()));
    }
    // Standard input cannot be waited for otherwise.
    let input = || while std::io::stdin().lock().read(&mut [0; 64]).is_ok_and(|read| read > 0) {};
    tokio::task::spawn_blocking(input).await?;
    let Counts { handshakes, refused, slept } = &*counts;
    println!("[{}, {}, {}]", handshakes.load(Relaxed), refused.load(Relaxed), slept.load(Relaxed));
    Ok(())
}

/// Opens a socket and gives the status of the upgrade. It is reset when it is dropped, so that no port is kept for it.
async fn open(source: Ipv4Addr, server: SocketAddr) -> std::io::Result<(TcpStream, String)> {
    let mut socket = connect_from(source, server).await?;
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    let head = format!(
        "GET /moorline HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    let mut status = [0; 12];
    socket.read_exact(&mut status).await?;
    Ok((socket, String::from_utf8_lossy(&status[9..]).into_owned()))
}

/// HS1 for a key that the server does not have, in a masked frame whose mask is zero.
fn bad_handshake() -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | 60, 0, 0, 0, 0, 1, 1, 1, 0];
    frame.resize(6 + 60, 0);
    frame
}

#[derive(Default)]
struct Counts {
    handshakes: AtomicUsize,
    refused: AtomicUsize,
    slept: AtomicUsize,
}

async fn flood(source: Ipv4Addr, server: SocketAddr, counts: Arc<Counts>) {
    loop {
        let Ok((mut socket, status)) = open(source, server).await else { continue };
        if status == "101" {
            counts.handshakes.fetch_add(1, Relaxed);
            let _ = socket.write_all(&bad_handshake()).await;
            // The close. Who waits for more than that floods less.
            let _ = socket.read(&mut [0; 16]).await;
        } else {
            counts.refused.fetch_add(1, Relaxed);
        }
    }
}

/// Opens a socket, leaves it alone until the server closes it, and again.
async fn sleep_on(server: SocketAddr, counts: Arc<Counts>) {
    loop {
        let Ok((mut socket, status)) = open(SLEEPER, server).await else { continue };
        if status == "101" {
            counts.slept.fetch_add(1, Relaxed);
            let _ = socket.read_to_end(&mut Vec::new()).await;
        } else {
            // As it was told, about.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
