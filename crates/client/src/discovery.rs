//! The plain GET that asks a server for its identity document.

use http_body_util::{BodyExt, Empty, Limited};
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
        Some(body) => match serde_json::from_slice(&body) {
            Ok(Answer::Document { keys, suites, encryption }) => {
                let (keys, suites) = (keys.iter().map(String::as_str), suites.iter().map(String::as_str));
                Discovery::document(keys, suites, &encryption)
            }
            Ok(Answer::Refusal { error }) => Discovery::refusal(&error.code),
            Err(_) => Discovery::NotMoorline,
        },
    }
}

/// The body of whatever answers.
async fn get(url: &DialUrl, socket: Box<dyn way::Stream>) -> Option<Bytes> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.ok()?;
    let after_scheme = url.as_str().split_once("://")?.1;
    let path = after_scheme.find('/').map_or("/", |slash| &after_scheme[slash..]);
    let request = Request::get(path).header(header::HOST, url.authority()).body(Empty::<Bytes>::new()).ok()?;
    let exchange = async {
        let response = sender.send_request(request).await.ok()?;
        // What is too large or breaks off is an answer too, only not a document.
        Some(Limited::new(response, MOST).collect().await.map(|body| body.to_bytes()).unwrap_or_default())
    };
    tokio::select! {
        biased;
        body = exchange => body,
        _ = connection => None,
    }
}
