//! The plain GET that asks a server for its identity document.

use std::pin::pin;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use moorline_protocol::{discovery::Discovery, url::DialUrl};
use serde::Deserialize;

use crate::way::{self, Way};

/// Larger answers are no identity documents.
const MOST: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Document { keys: Vec<String>, suites: Vec<String>, encryption: String },
    Refusal { error: Refusal },
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
}

/// Asks the server at `url`. It does not fail: whatever happens says something.
pub(crate) async fn discover(url: &DialUrl, way: &Way) -> Discovery {
    let socket = match way.connect(url).await {
        Ok(socket) => socket,
        Err(error) => return way::failure(&error),
    };
    match get(url, socket).await {
        None => Discovery::Unreachable,
        Some((status, body)) => match serde_json::from_slice(&body) {
            Ok(Answer::Document { keys, suites, encryption }) => {
                let (keys, suites) = (keys.iter().map(String::as_str), suites.iter().map(String::as_str));
                Discovery::document(keys, suites, &encryption)
            }
            Ok(Answer::Refusal { error }) => Discovery::refusal(&error.code),
            Err(_) => Discovery::foreign(status),
        },
    }
}

/// The status and the body of whatever answers; empty where there is too much of it. What breaks off is no answer.
async fn get(url: &DialUrl, socket: Box<dyn way::Stream>) -> Option<(u16, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.ok()?;
    let after_scheme = url.as_str().split_once("://")?.1;
    let path = after_scheme.find('/').map_or("/", |slash| &after_scheme[slash..]);
    let request = Request::get(path).header(header::HOST, url.authority()).body(Empty::<Bytes>::new()).ok()?;
    let exchange = async {
        let response = sender.send_request(request).await.ok()?;
        let status = response.status().as_u16();
        match Limited::new(response, MOST).collect().await {
            Ok(body) => Some((status, body.to_bytes())),
            Err(error) => error.is::<LengthLimitError>().then(|| (status, Bytes::new())),
        }
    };
    let mut exchange = pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // Who answers and closes has answered.
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// What is discovered where everybody is answered with these bytes, after which the line breaks.
    async fn discovered(answer: &'static str) -> Discovery {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            // The whole question: what is not read would break the line before the answer is.
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                question.push(socket.read_u8().await.unwrap());
            }
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
        let url = DialUrl::parse("ws://localhost/moorline").unwrap();
        let way = Way { address: Some(address), ..Way::default() };
        let discovery = discover(&url, &way).await;
        answering.await.unwrap();
        discovery
    }

    /// One who closes behind its answer was taken for nobody where both came at once, as they do here.
    #[tokio::test]
    async fn regression_an_answer_that_is_not_moorlines_is_of_another_server_or_of_a_gateway_that_reaches_none() {
        for (answer, discovery) in [
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone", Discovery::NotMoorline),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Discovery::NotMoorline),
            ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad", Discovery::Unreachable),
            ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", Discovery::Unreachable),
        ] {
            assert_eq!(discovered(answer).await, discovery, "{answer}");
        }
    }

    /// A server that is killed while it answers was called one of another kind, for what had come of its answer was no
    /// document.
    #[tokio::test]
    async fn regression_an_answer_that_breaks_off_is_none() {
        for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"moorline\":1"] {
            assert_eq!(discovered(answer).await, Discovery::Unreachable, "{answer:?}");
        }
    }
}
