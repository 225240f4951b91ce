//! Handlers that answer with a stream: what they return, and how it is run.
//!
//! An item is only asked for when the client takes one, so that a handler is never ahead of its reader by more than the
//! reader allows. Leaving the loop over there drops the stream here.

use std::{
    future::{Future, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures_util::{
    FutureExt, Stream, StreamExt,
    stream::{self, BoxStream},
};
use moorline_protocol::{code::Code, frame::Failure, payload::Payload};
use serde::Serialize;

use crate::{
    access::Guard,
    fail::Fail,
    handler::{Context, FromCall},
    limits::Turns,
    metrics::{CallResult, Meter},
    states::StateType,
};

/// What a handler yields, as it said it.
pub type Items = BoxStream<'static, Result<Payload, Fail>>;

/// What goes to the client. After a failure nothing comes any more.
pub(crate) type Streaming = BoxStream<'static, Result<Payload, Failure>>;

/// An async function whose parameters are [`FromCall`] and whose result is a stream of `Result<T, E>`, where `T` has a
/// JSON form and `E` becomes a [`Fail`]. The first error ends the stream.
pub trait StreamHandler<Args>: Clone + Send + Sync + 'static {
    /// Begins the stream.
    fn run(self, context: Context) -> Items;

    /// The states that its parameters need.
    fn states() -> Vec<StateType>;

    /// What it asks of its callers: see [`Restrict`](crate::Restrict).
    fn guard(&self) -> Guard {
        Guard::new()
    }
}

macro_rules! stream_handler_of {
    ($($argument:ident)*) => {
        impl<F, Fut, S, T, E, $($argument,)*> StreamHandler<($($argument,)*)> for F
        where
            F: Fn($($argument,)*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = S> + Send + 'static,
            S: Stream<Item = Result<T, E>> + Send + 'static,
            T: Serialize,
            E: Into<Fail>,
            $($argument: FromCall + Send + 'static,)*
        {
            #[allow(unused_variables, reason = "a handler without parameters looks at nothing")]
            fn run(self, context: Context) -> Items {
                let begin = async move {
                    let begun = async { Ok::<_, Fail>((self)($($argument::from_call(&context)?,)*).await) };
                    match begun.await {
                        Ok(items) => items
                            .map(|item| Ok(Payload::json(serde_json::to_vec(&item.map_err(Into::into)?)?)))
                            .left_stream(),
                        Err(fail) => stream::once(ready(Err(fail))).right_stream(),
                    }
                };
                begin.flatten_stream().boxed()
            }

            fn states() -> Vec<StateType> {
                let states: [Option<StateType>; _] = [$($argument::state(),)*];
                states.into_iter().flatten().collect()
            }
        }
    };
}

stream_handler_of!();
stream_handler_of!(A1);
stream_handler_of!(A1 A2);
stream_handler_of!(A1 A2 A3);
stream_handler_of!(A1 A2 A3 A4);
stream_handler_of!(A1 A2 A3 A4 A5);
stream_handler_of!(A1 A2 A3 A4 A5 A6);

/// A handler whose parameters are forgotten, as the router keeps it.
pub(crate) struct BoxedStream {
    run: Box<dyn Fn(Context) -> Items + Send + Sync>,
    meter: Meter,
    pub(crate) states: Vec<StateType>,
    pub(crate) guard: Guard,
    pub(crate) turns: Option<Turns>,
}

impl BoxedStream {
    pub(crate) fn new<Args, H: StreamHandler<Args>>(handler: H, meter: Meter) -> Self {
        let guard = handler.guard();
        let turns = guard.turns();
        Self { run: Box::new(move |context| handler.clone().run(context)), meter, states: H::states(), guard, turns }
    }

    /// Runs it. An error is logged and becomes what the client may hear of it, and so does a panic.
    pub(crate) fn run(&self, context: Context) -> Streaming {
        let (name, run) = (context.name.clone(), self.meter.begin());
        let items = match catch_unwind(AssertUnwindSafe(|| (self.run)(context))) {
            Ok(items) => AssertUnwindSafe(items).catch_unwind().left_stream(),
            Err(panic) => stream::once(ready(Err(panic))).right_stream(),
        };
        let next = move |state: Option<(_, _)>| {
            let name: Arc<str> = name.clone();
            async move {
                let (mut items, mut run): (_, crate::metrics::Run) = state?;
                match StreamExt::next(&mut items).await {
                    Some(Ok(Ok(payload))) => Some((Ok(payload), Some((items, run)))),
                    Some(Ok(Err(fail))) => {
                        run.end(CallResult::Failed);
                        Some((Err(Fail::into_failure(fail, &name)), None))
                    }
                    Some(Err(_panic)) => {
                        run.panic();
                        run.end(CallResult::Failed);
                        tracing::error!(handler = &*name, "a handler panicked");
                        Some((Err(Failure::of(Code::INTERNAL)), None))
                    }
                    None => {
                        run.end(CallResult::Ok);
                        None
                    }
                }
            }
        };
        stream::unfold(Some((items.boxed(), run)), next).boxed()
    }
}
