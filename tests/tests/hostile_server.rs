//! What the native client does with a server that breaks the rules.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use moorline_client::Client;
use moorline_protocol::{client::Status, code::Code, limits::MAX_RECORD, record::SUBPROTOCOL_PLAIN};
use moorline_tests::{TestResult, raw::PATIENCE};
use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};

#[allow(clippy::result_large_err, reason = "the library's signature")]
fn choose(
    _: &Request,
    mut response: Response,
) -> Result<Response, tokio_tungstenite::tungstenite::handshake::server::ErrorResponse> {
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL_PLAIN));
    Ok(response)
}

/// It counted as a connection that was merely lost, and the server was not told what it did.
#[tokio::test]
async fn regression_an_oversized_message_is_closed_as_a_violation() -> TestResult {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/moorline", listener.local_addr()?);
    let client = Client::builder(&url)?.encryption(None).connect()?;

    let mut websocket = accept_hdr_async(listener.accept().await?.0, choose).await?;
    let hello = timeout(PATIENCE, websocket.next()).await?.ok_or("no HELLO")??;
    assert!(hello.is_binary());
    websocket.send(Message::binary(vec![0x11; MAX_RECORD + 1])).await?;

    let Some(Ok(Message::Close(Some(frame)))) = timeout(PATIENCE, websocket.next()).await? else {
        return Err("not closed with a code".into());
    };
    assert_eq!(u16::from(frame.code), Code::PROTOCOL_VIOLATION.0);
    let told = client.wait_for(|status| matches!(status, Status::Connecting { error: Some(_), .. }));
    let Status::Connecting { error: Some(failure), .. } = timeout(PATIENCE, told).await?? else {
        return Err("not connecting".into());
    };
    assert_eq!(failure.code, Code::PROTOCOL_VIOLATION);
    client.close().await;
    Ok(())
}

/// A try that had been given up went on in the background, until the server said something or closed: with each try one
/// socket more was kept, and the end of the client waited for all of them.
#[tokio::test]
async fn regression_a_try_that_is_given_up_closes_its_socket_and_nothing_waits_for_it() -> TestResult {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let builder = Client::builder(&format!("ws://{}/moorline", listener.local_addr()?))?.encryption(None);
    let client = builder.configure(|config| config.connect_timeout = Duration::from_millis(50)).connect()?;
    // It takes every connection and answers none.
    let mut tries = Vec::new();
    for _ in 0..2 {
        tries.push(timeout(PATIENCE, listener.accept()).await??.0);
    }
    timeout(PATIENCE, tries[0].read_to_end(&mut Vec::new())).await??;
    timeout(PATIENCE, client.close()).await?;
    timeout(PATIENCE, tries[1].read_to_end(&mut Vec::new())).await??;
    Ok(())
}
