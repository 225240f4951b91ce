//! That a client cannot fill the log.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use moorline_client::Error;
use moorline_protocol::code::Code;
use moorline_server::prelude::*;
use moorline_tests::{TestResult, TestServer};
use tracing_subscriber::{filter::LevelFilter, fmt};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client says itself how large a message it takes, and every answer beyond that was a line: of one that took a byte, as
/// many lines as it asked. (One test: what is logged is one for the process.)
#[tokio::test]
async fn regression_who_takes_no_answer_does_not_fill_the_log() -> TestResult {
    let log = Log::default();
    let writer = log.clone();
    fmt().with_max_level(LevelFilter::ERROR).with_writer(move || writer.clone()).init();
    let server = TestServer::start(Server::builder().handler("long", async || Json("a long text"))).await?;
    let client = server.client()?.configure(|config| config.limits.max_message = 4).connect()?;
    for _ in 0..200 {
        let refused = client.call::<String>("long", &()).await;
        assert!(matches!(&refused, Err(Error::Failed(failure)) if failure.code == Code::TOO_LARGE), "{refused:?}");
    }
    let lines = log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(String::from_utf8(lines)?.lines().count(), 1);
    Ok(())
}
