//! A stream that a client's handler answers with, read here.

use std::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};
use moorline_protocol::{error::Refused, payload::Payload, session::Outcome};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::{CancelOnDrop, Command, Peer, SendError};

/// How far a client may be ahead of who reads, in items. With the largest message this bounds what a stream that nobody
/// reads costs, so it is less than a page allows itself.
pub(super) const CREDIT: u64 = 16;

/// What a stream of the client's came to.
pub(crate) enum Item {
    Next(Payload),
    /// Nothing comes behind it.
    Last(Outcome),
}

/// What a client's handler yields, item by item: a [`Stream`]. Dropping it cancels the call, and the generator on the
/// page ends.
pub struct Items<T> {
    /// `None` once the stream has ended.
    open: Option<Open>,
    of: PhantomData<fn() -> T>,
}

struct Open {
    items: mpsc::UnboundedReceiver<Item>,
    /// Items read since the client was last told to send more.
    read: u64,
    guard: CancelOnDrop,
}

impl<T> Items<T> {
    pub(super) fn new(peer: Peer, ticket: u64, items: mpsc::UnboundedReceiver<Item>) -> Self {
        Self {
            open: Some(Open { items, read: 0, guard: CancelOnDrop { peer, ticket: Some(ticket) } }),
            of: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Items<T> {
    /// The next item; `None` at the end. The first has 10 s to come, the others as long as they take.
    ///
    /// # Errors
    /// The client's failure, or why nothing more comes. Nothing follows an error, save one that only this item's JSON
    /// was not what was expected.
    pub async fn next(&mut self) -> Option<Result<T, SendError>> {
        StreamExt::next(self).await
    }
}

impl<T: DeserializeOwned> Stream for Items<T> {
    type Item = Result<T, SendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(open) = &mut self.open else { return Poll::Ready(None) };
        let Poll::Ready(item) = open.items.poll_recv(cx) else { return Poll::Pending };
        if let Some(Item::Next(payload)) = item {
            open.read += 1;
            if open.read >= CREDIT / 2 {
                let more = std::mem::take(&mut open.read);
                open.guard.tell(|ticket| Command::Grant { ticket, more });
            }
            return Poll::Ready(Some(serde_json::from_slice(&payload.bytes).map_err(SendError::Json)));
        }
        open.guard.ticket = None;
        self.open = None;
        Poll::Ready(match item {
            Some(Item::Last(Outcome::End)) => None,
            Some(Item::Last(Outcome::Failed(failure))) => Some(Err(SendError::Failed(failure))),
            Some(Item::Last(Outcome::TimedOut)) => Some(Err(SendError::TimedOut)),
            Some(Item::Last(Outcome::Unknown)) => Some(Err(SendError::Unknown)),
            // A reply is no stream, and without a task there is nobody to answer.
            _ => Some(Err(SendError::Refused(Refused::Closed))),
        })
    }
}
