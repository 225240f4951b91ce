//! The PROXY protocol: how a proxy that only passes bytes on tells whose they are, before anything else is said.
//!
//! It reads the header of version 1 (a line) or 2 (binary) from a trusted proxy, and not a byte more. Source: "The PROXY
//! protocol", versions 1 and 2, by HAProxy.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use crate::config::Network;

/// Where a TCP connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Its other end, or who is behind it by a PROXY header.
    pub(crate) address: SocketAddr,
    /// Whether whoever has that address may say by headers of HTTP that somebody else asks. A proxy whose PROXY header
    /// names nobody may not: the address is its own, the headers of somebody that it does not know.
    pub(crate) may_forward: bool,
}

/// Who may say so, and how long it may take.
#[derive(Clone)]
pub(crate) struct ProxyProtocol {
    pub(crate) trusted: Vec<Network>,
    pub(crate) deadline: Duration,
}

/// The longest line of version 1, its end included (§ 2.1).
const MAX_LINE: usize = 107;

/// What version 2 may have behind its fixed part: addresses and what else a balancer tells. The format could be longer;
/// nobody's is.
const MAX_REST: usize = 4096;

/// How version 2 begins (§ 2.2). No line of text does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

impl ProxyProtocol {
    /// Who is behind the proxy. Whoever is no trusted proxy has no header and is who he is; and so is, for a header that
    /// names nobody, the proxy itself (§ 2.1 and 2.2: the receiver must use the real endpoints of the connection).
    ///
    /// # Errors
    /// When a trusted proxy sends no header, or not in time: who is behind it is then not known.
    pub(crate) async fn read(&self, socket: &mut (impl AsyncRead + Unpin), peer: SocketAddr) -> io::Result<Arrival> {
        if !self.trusted.iter().any(|network| network.contains(peer.ip())) {
            return Ok(Arrival { address: peer, may_forward: true });
        }
        let named = timeout(self.deadline, read(socket)).await??;
        Ok(Arrival { address: named.unwrap_or(peer), may_forward: named.is_some() })
    }
}

/// `None` when the proxy names nobody: it speaks for itself, as when it looks whether we live, or for somebody whose
/// address it does not know.
async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    // Both versions are longer than this.
    let mut start = [0; SIGNATURE.len()];
    socket.read_exact(&mut start).await?;
    if start != SIGNATURE {
        let mut line = start.to_vec();
        // What is not one is not read on.
        while line.starts_with(b"PROXY ") && !line.ends_with(b"\r\n") && line.len() < MAX_LINE {
            // A byte at a time: the next thing is somebody else's.
            line.push(socket.read_u8().await?);
        }
        return of_line(&line).ok_or_else(|| io::ErrorKind::InvalidData.into());
    }
    let mut fixed = [0; 4];
    socket.read_exact(&mut fixed).await?;
    let [command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rest = vec![0; length];
    socket.read_exact(&mut rest).await?;
    of_binary(command, family, &rest).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// § 2.1: `PROXY TCP4 192.0.2.1 192.0.2.2 51234 443`, or `PROXY UNKNOWN` and whatever.
fn of_line(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?.strip_suffix("\r\n")?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = line.split(' ');
    let (family, source, target) = (words.next()?, words.next()?, words.next()?);
    let (port, target_port) = (words.next()?.parse::<u16>().ok()?, words.next()?.parse::<u16>().ok());
    let is_whole = words.next().is_none() && target_port.is_some();
    let source = match family {
        "TCP4" => target.parse::<Ipv4Addr>().ok().and(source.parse().ok().map(IpAddr::V4)),
        "TCP6" => target.parse::<Ipv6Addr>().ok().and(source.parse().ok().map(IpAddr::V6)),
        _ => None,
    };
    is_whole.then_some(Some(SocketAddr::new(source?.to_canonical(), port)))
}

/// § 2.2: version and command, family and transport, then addresses, ports, and what we do not need.
fn of_binary(command: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match (command, family) {
        // LOCAL: the addresses are to be passed over.
        (0x20, _) => Some(None),
        (0x21, 0x11) => {
            let (addresses, ports) = (rest.first_chunk::<4>()?, rest.get(8..12)?);
            Some(Some(SocketAddr::new(Ipv4Addr::from(*addresses).into(), port(ports)?)))
        }
        (0x21, 0x21) => {
            let (addresses, ports) = (rest.first_chunk::<16>()?, rest.get(32..36)?);
            Some(Some(SocketAddr::new(IpAddr::from(*addresses).to_canonical(), port(ports)?)))
        }
        // A local socket, a datagram, or a kind that the proxy does not say: nothing that names a client.
        (0x21, _) => Some(None),
        _ => None,
    }
}

fn port(ports: &[u8]) -> Option<u16> {
    ports.first_chunk().copied().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of these bytes, and what is left.
    async fn given(bytes: &[u8]) -> (Result<Option<String>, io::ErrorKind>, usize) {
        let mut socket = bytes;
        let read = read(&mut socket).await;
        let read = read.map(|address| address.map(|address| address.to_string())).map_err(|error| error.kind());
        (read, socket.len())
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const FOUR: [u8; 12] = [203, 0, 113, 9, 192, 0, 2, 1, 0xc8, 0x22, 1, 0xbb];

    #[tokio::test]
    async fn a_header_names_the_client_and_nothing_behind_it_is_read() {
        let mut six = [0; 36];
        six[..16].copy_from_slice(&"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        six[32..34].copy_from_slice(&51_234_u16.to_be_bytes());
        let mut mapped = six;
        mapped[..16].copy_from_slice(&"::ffff:203.0.113.9".parse::<Ipv6Addr>().unwrap().octets());
        let with_more = [&FOUR[..], &[4, 0, 3, 1, 2, 3]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n".to_vec(), Some("203.0.113.9:51234")),
            (b"PROXY TCP6 2001:db8::9 2001:db8::1 51234 443\r\n".to_vec(), Some("[2001:db8::9]:51234")),
            (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 51234 443\r\n".to_vec(), Some("203.0.113.9:51234")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(), None),
            (binary(0x21, 0x11, &FOUR), Some("203.0.113.9:51234")),
            (binary(0x21, 0x11, &with_more), Some("203.0.113.9:51234")),
            (binary(0x21, 0x21, &six), Some("[2001:db8::9]:51234")),
            (binary(0x21, 0x21, &mapped), Some("203.0.113.9:51234")),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &FOUR), None),
            (binary(0x21, 0x00, &[]), None),
            (binary(0x21, 0x31, &[0; 216]), None),
        ] {
            let text = String::from_utf8_lossy(&header).into_owned();
            let (read, left) = given(&[&header[..], b"GET /"].concat()).await;
            assert_eq!((read, left), (Ok(expected.map(str::to_owned)), 5), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_and_bounded() {
        let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
        for bytes in [
            b"GET /moorline HTTP/1.1\r\nHost: a\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 51234\r\n--------".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443 1\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::9 192.0.2.1 51234 443\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 65536\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 99999 443\r\n".to_vec(),
            b"PROXY  TCP4 203.0.113.9 192.0.2.1 51234 443\r\n".to_vec(),
            b"PROXY UDP4 203.0.113.9 192.0.2.1 51234 443\r\n".to_vec(),
            b"PROXY UNKNOWNS\r\n----".to_vec(),
            b"proxy tcp4 203.0.113.9 192.0.2.1 51234 443\r\n".to_vec(),
            long.into_bytes(),
            binary(0x11, 0x11, &FOUR),
            binary(0x22, 0x11, &FOUR),
            binary(0x21, 0x11, &FOUR[..11]),
            binary(0x21, 0x21, &FOUR),
            binary(0x21, 0x11, &[0; MAX_REST + 1]),
        ] {
            let (read, _) = given(&bytes).await;
            assert_eq!(read, Err(io::ErrorKind::InvalidData), "{}", String::from_utf8_lossy(&bytes));
        }
        for cut in [&b""[..], b"PROXY", b"PROXY TCP4 203.0.113.9 ", &binary(0x21, 0x11, &FOUR)[..20]] {
            assert_eq!(given(cut).await.0, Err(io::ErrorKind::UnexpectedEof));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_trusted_proxy_speaks_for_others_and_it_must_in_time() {
        let trusted = vec!["10.0.0.0/8".parse().unwrap()];
        let protocol = ProxyProtocol { trusted, deadline: Duration::from_secs(5) };
        let header = &b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n"[..];
        let (proxy, other) = ("10.0.0.1:1".parse().unwrap(), "192.0.2.1:1".parse().unwrap());
        let mut socket = header;
        let client = protocol.read(&mut socket, proxy).await.unwrap();
        assert_eq!(client, Arrival { address: "203.0.113.9:51234".parse().unwrap(), may_forward: true });
        let mut socket = header;
        let itself = protocol.read(&mut socket, other).await.unwrap();
        assert_eq!(itself, Arrival { address: other, may_forward: true });
        assert_eq!(socket.len(), header.len(), "it is not ours to read");
        let (mut near, _far) = tokio::io::duplex(64);
        assert_eq!(protocol.read(&mut near, proxy).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    /// A header that names nobody left the trusted proxy's address in place of the client's, and with it the trust in
    /// what comes next: whoever was behind could choose his address by `X-Forwarded-For`.
    #[tokio::test]
    async fn regression_a_proxy_that_names_nobody_is_itself_and_speaks_for_nobody() {
        let proxy = "10.0.0.1:1".parse().unwrap();
        let protocol = ProxyProtocol { trusted: vec!["10.0.0.0/8".parse().unwrap()], deadline: Duration::from_secs(5) };
        for header in
            [b"PROXY UNKNOWN\r\n".to_vec(), binary(0x20, 0x00, &[]), binary(0x20, 0x11, &FOUR), binary(0x21, 0x00, &[])]
        {
            let arrival = protocol.read(&mut header.as_slice(), proxy).await.unwrap();
            assert_eq!(arrival, Arrival { address: proxy, may_forward: false }, "{}", String::from_utf8_lossy(&header));
        }
    }
}
