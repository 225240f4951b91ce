//! The accept loop: sockets in, HTTP connections out, and an end to it.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::Response};
use hyper::{Request, body::Incoming, server::conn::http1, service::Service, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use crate::{
    proxy_protocol::{Arrival, ProxyProtocol},
    shared::Shared,
    tasks::Tasks,
};

/// How long to wait after the system refused a socket, usually for the lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long one HTTP connection may go on, and how long the exchange that is under way then has to end. Without this,
/// who asks for a large file and does not read it held his place for good.
const LONGEST: Duration = Duration::from_secs(600);

/// What those who come to a listener get, and what they may do.
pub(crate) struct Terms {
    pub(crate) router: Router,
    /// TCP connections at once; whoever comes beyond them waits in the system's queue.
    pub(crate) sockets: usize,
    /// Whose limits on one address hold, if any do.
    pub(crate) limited: Option<Arc<Shared>>,
    /// How long the head of a request may take.
    pub(crate) head: Duration,
    /// Own the connections, and end them.
    pub(crate) tasks: Tasks,
    /// Who tells of others by the PROXY protocol.
    pub(crate) proxies: Option<ProxyProtocol>,
    /// How to end TLS, and how long its handshake may take.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<(tokio_rustls::TlsAcceptor, Duration)>,
}

/// Bytes that may wait in the system's buffer of a socket before it takes no more for now.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MOST_UNSENT: u32 = 128 * 1024;

/// Accepts until `shutdown`.
pub(crate) async fn accept(listener: TcpListener, terms: Terms, shutdown: impl Future<Output = ()>) {
    let terms = Arc::new(terms);
    let sockets = Arc::new(Semaphore::new(terms.sockets));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let permit = sockets.clone().acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Some((Ok((socket, address)), permit)) => serve(socket, address, &terms, permit),
            Some((Err(error), _)) => {
                tracing::warn!(%error, "a socket could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None => break,
        }
    }
}

/// Serves one socket until it is done, upgraded, or the server stops.
fn serve(socket: TcpStream, address: SocketAddr, terms: &Arc<Terms>, permit: OwnedSemaphorePermit) {
    let held = match &terms.limited {
        None => None,
        Some(shared) => match shared.connect(address) {
            Ok(held) => held,
            Err(_) => return,
        },
    };
    // A record is written whole and waits for nothing.
    let _ = socket.set_nodelay(true);
    // The system's own buffer grows to megabytes for a client that does not read, and what lies in there cannot be
    // dropped or counted any more. So much unsent keeps any line busy.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(&socket).set_tcp_notsent_lowat(MOST_UNSENT);
    let serving = terms.clone();
    let held = (permit, held);
    terms.tasks.spawn(async move {
        let mut socket = socket;
        let arrival = match &serving.proxies {
            None => Arrival { address, may_forward: true },
            Some(proxies) => match proxies.read(&mut socket, address).await {
                Ok(arrival) => arrival,
                Err(error) => {
                    tracing::debug!(%error, %address, "a trusted proxy sent no PROXY header, and is not answered");
                    return drop(held);
                }
            },
        };
        #[cfg(feature = "tls")]
        if let Some((acceptor, most)) = &serving.tls {
            let address = arrival.address;
            match timeout(*most, acceptor.accept(socket)).await {
                Ok(Ok(socket)) => serve_http(socket, arrival, &serving).await,
                Ok(Err(error)) => tracing::debug!(%error, %address, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
            }
            return drop(held);
        }
        serve_http(socket, arrival, &serving).await;
        drop(held);
    });
}

async fn serve_http<S>(socket: S, arrival: Arrival, terms: &Terms)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = arrival.address;
    let routes = TowerToHyperService::new(terms.router.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(arrival);
        let answer = routes.call(request);
        async move { Ok::<Response, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(terms.head)
        .max_headers(64)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let enough = async {
        tokio::select! {
            () = sleep(LONGEST) => {}
            () = terms.tasks.stopping() => {}
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = enough => {
            connection.as_mut().graceful_shutdown();
            timeout(LONGEST, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, %address, "an HTTP connection ended early"),
        Err(_) => tracing::debug!(%address, "an HTTP connection took too long"),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn terms(router: Router) -> Terms {
        Terms {
            router,
            sockets: 1,
            limited: None,
            head: Duration::from_secs(5),
            tasks: Tasks::default(),
            proxies: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Who asked for something large and did not read it held one of the server's sockets for as long as he liked, and
    /// could have all of them.
    #[tokio::test(start_paused = true)]
    async fn regression_who_does_not_read_what_he_asked_for_does_not_stay_for_good() -> std::io::Result<()> {
        let terms = terms(Router::new().route("/", get(async || vec![0_u8; 1 << 20])));
        let (mut client, server) = tokio::io::duplex(1_024);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        let arrival = Arrival { address: SocketAddr::from(([127, 0, 0, 1], 1)), may_forward: true };
        timeout(3 * LONGEST, serve_http(server, arrival, &terms)).await?;
        // And who reads, if slowly, gets all of it.
        let (mut client, server) = tokio::io::duplex(1_024);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        let reading = async {
            let mut taken = 0;
            let mut bytes = [0; 4_096];
            loop {
                sleep(Duration::from_millis(600)).await;
                match client.read(&mut bytes).await {
                    Ok(0) | Err(_) => return taken,
                    Ok(read) => taken += read,
                }
            }
        };
        let ((), taken) = tokio::join!(serve_http(server, arrival, &terms), reading);
        assert!(taken > 1 << 20, "{taken}");
        Ok(())
    }
}
