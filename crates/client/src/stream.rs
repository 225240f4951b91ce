//! Reading a stream of the server's, item by item.

use std::marker::PhantomData;

use moorline_protocol::{frame::CallId, limits::DEFAULT_CREDIT, session::Outcome};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::{
    Error,
    driver::{Command, Item},
};

/// A stream of the server's. Dropping it cancels the call, and the server's function ends at its next `await`.
pub struct Items<T> {
    pub(crate) id: CallId,
    pub(crate) items: mpsc::UnboundedReceiver<Item>,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Items read since the server was last told to send more.
    pub(crate) read: u64,
    pub(crate) of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Items<T> {
    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// The server's failure, or why nothing more comes. Nothing follows an error.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        match self.items.recv().await? {
            Item::Next(payload) => {
                self.read += 1;
                if self.read >= DEFAULT_CREDIT / 2 {
                    let (id, more) = (self.id, std::mem::take(&mut self.read));
                    // A client that has ended sends nothing more either.
                    let _ = self.commands.send(Command::Grant { id, more }).await;
                }
                Some(serde_json::from_slice(&payload.bytes).map_err(Error::Json))
            }
            Item::Last(outcome) => {
                self.items.close();
                match outcome {
                    Outcome::End => None,
                    Outcome::Failed(failure) => Some(Err(Error::Failed(failure))),
                    Outcome::TimedOut => Some(Err(Error::TimedOut)),
                    Outcome::Unknown => Some(Err(Error::Unknown)),
                    // A reply is no stream.
                    Outcome::Reply(_) | Outcome::NotSent => Some(Err(Error::Closed(None))),
                }
            }
        }
    }
}
