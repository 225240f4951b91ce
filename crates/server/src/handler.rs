//! Handlers as plain async functions: what they may take, what they may return.
//!
//! The model is axum's: a function's parameters are extractors ([`FromCall`]), its result is anything that is
//! [`IntoReply`].

use std::{
    any::{TypeId, type_name},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::FutureExt;
use moorline_protocol::{
    code::Code,
    frame::Failure,
    payload::{Encoding, Payload},
};
use serde::{Serialize, de::DeserializeOwned};

pub use crate::states::StateType;
use crate::{
    access::{Guard, Principal, claims, gate::Entry},
    channels::Channels,
    fail::Fail,
    limits::Turns,
    metrics::{CallResult, Meter},
    peer::Peer,
    peers::Peers,
    policy::Declarations,
    states::{GivenBy, States},
};

/// One call, notification or change of a connection, as extractors see it.
pub struct Context {
    pub(crate) name: Arc<str>,
    pub(crate) payload: Payload,
    pub(crate) peer: Peer,
    pub(crate) peers: Peers,
    pub(crate) states: Arc<States>,
    pub(crate) entry: Entry,
    pub(crate) channels: Arc<Channels>,
    pub(crate) declared: Arc<Declarations>,
}

/// Something that a handler takes.
pub trait FromCall: Sized {
    /// Takes it out of the call.
    ///
    /// # Errors
    /// What the caller is to hear when it is not there.
    fn from_call(context: &Context) -> Result<Self, Fail>;

    /// The state that it needs, if it needs one.
    fn state() -> Option<StateType> {
        None
    }
}

/// Something that a handler returns.
pub trait IntoReply {
    /// Makes the reply, or the failure, out of it.
    ///
    /// # Errors
    /// The failure.
    fn into_reply(self) -> Result<Payload, Fail>;
}

/// A JSON value: the argument of a call, or its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromCall for Json<T> {
    /// Fails with `invalid_params` and the place that did not fit.
    fn from_call(context: &Context) -> Result<Self, Fail> {
        if context.payload.encoding != Encoding::Json {
            return Err(Fail::with_message(Code::INVALID_PARAMS, "the argument must be JSON, not bytes"));
        }
        serde_json::from_slice(&context.payload.bytes)
            .map(Self)
            .map_err(|error| Fail::with_message(Code::INVALID_PARAMS, error.to_string()))
    }
}

impl<T: Serialize> IntoReply for Json<T> {
    fn into_reply(self) -> Result<Payload, Fail> {
        Ok(Payload::json(serde_json::to_vec(&self.0)?))
    }
}

impl FromCall for Bytes {
    /// The argument as it came, whatever its encoding.
    fn from_call(context: &Context) -> Result<Self, Fail> {
        Ok(context.payload.bytes.clone())
    }
}

impl IntoReply for Bytes {
    fn into_reply(self) -> Result<Payload, Fail> {
        Ok(Payload::bytes(self))
    }
}

impl FromCall for Payload {
    fn from_call(context: &Context) -> Result<Self, Fail> {
        Ok(context.payload.clone())
    }
}

impl IntoReply for Payload {
    fn into_reply(self) -> Result<Payload, Fail> {
        Ok(self)
    }
}

impl IntoReply for () {
    /// JSON `null`.
    fn into_reply(self) -> Result<Payload, Fail> {
        Ok(Payload::json(Bytes::from_static(b"null")))
    }
}

impl<T: IntoReply, E: Into<Fail>> IntoReply for Result<T, E> {
    fn into_reply(self) -> Result<Payload, Fail> {
        self.map_err(Into::into)?.into_reply()
    }
}

/// What `with_state` was given, cloned for this call.
#[derive(Clone, Copy, Debug)]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromCall for State<T> {
    fn from_call(context: &Context) -> Result<Self, Fail> {
        context.states.get().map(Self).ok_or_else(|| Fail::of(Code::INTERNAL))
    }

    fn state() -> Option<StateType> {
        Some(StateType { id: TypeId::of::<T>(), name: type_name::<T>(), given_by: GivenBy::WithState })
    }
}

impl FromCall for Peer {
    /// Who called.
    fn from_call(context: &Context) -> Result<Self, Fail> {
        Ok(context.peer.clone())
    }
}

impl FromCall for Peers {
    /// Everybody who is connected.
    fn from_call(context: &Context) -> Result<Self, Fail> {
        Ok(context.peers.clone())
    }
}

impl FromCall for Principal {
    /// Who the caller is, as of this call.
    fn from_call(context: &Context) -> Result<Self, Fail> {
        Ok((*context.entry.principal).clone())
    }
}

/// What the caller's token says, read into a type of the application's; of who came in without a token, what there is of
/// `sub`, `tenant`, `role` and, beside them, the members of `meta`.
#[derive(Clone, Copy, Debug)]
pub struct Auth<T>(pub T);

impl<T: DeserializeOwned> FromCall for Auth<T> {
    /// Fails with `forbidden` when it does not fit.
    fn from_call(context: &Context) -> Result<Self, Fail> {
        claims::read(context.entry.claims()).map(Self).map_err(|misfit| {
            let session = context.peer.id();
            tracing::warn!(handler = &*context.name, %session, %misfit, "the caller's claims do not fit the handler's type");
            Fail::of(Code::FORBIDDEN)
        })
    }
}

/// The name that was called, for a handler that serves several.
#[derive(Clone, Debug)]
pub struct CallName(pub Arc<str>);

impl FromCall for CallName {
    fn from_call(context: &Context) -> Result<Self, Fail> {
        Ok(Self(context.name.clone()))
    }
}

/// An async function whose parameters are [`FromCall`] and whose result is [`IntoReply`].
///
/// When the caller gives up, or its connection ends, the function's future is dropped at its next `await`.
pub trait Handler<Args>: Clone + Send + Sync + 'static {
    /// What the function returns.
    type Future: Future<Output = Result<Payload, Fail>> + Send;

    /// Runs it.
    fn run(self, context: Context) -> Self::Future;

    /// The states that its parameters need.
    fn states() -> Vec<StateType>;

    /// What it asks of its callers: see [`Restrict`](crate::Restrict).
    fn guard(&self) -> Guard {
        Guard::new()
    }
}

/// A handler that runs.
pub type Running = Pin<Box<dyn Future<Output = Result<Payload, Fail>> + Send>>;

macro_rules! handler_of {
    ($($argument:ident)*) => {
        impl<F, Fut, R, $($argument,)*> Handler<($($argument,)*)> for F
        where
            F: Fn($($argument,)*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoReply + 'static,
            $($argument: FromCall + Send + 'static,)*
        {
            type Future = Running;

            #[allow(unused_variables, reason = "a handler without parameters looks at nothing")]
            fn run(self, context: Context) -> Running {
                Box::pin(async move { (self)($($argument::from_call(&context)?,)*).await.into_reply() })
            }

            fn states() -> Vec<StateType> {
                let states: [Option<StateType>; _] = [$($argument::state(),)*];
                states.into_iter().flatten().collect()
            }
        }
    };
}

handler_of!();
handler_of!(A1);
handler_of!(A1 A2);
handler_of!(A1 A2 A3);
handler_of!(A1 A2 A3 A4);
handler_of!(A1 A2 A3 A4 A5);
handler_of!(A1 A2 A3 A4 A5 A6);

/// A handler whose parameters are forgotten, as the router keeps it.
pub(crate) struct BoxedHandler {
    run: Box<dyn Fn(Context) -> Running + Send + Sync>,
    meter: Meter,
    pub(crate) states: Vec<StateType>,
    pub(crate) guard: Guard,
    /// How often whom; its own, also where the same function has several names.
    pub(crate) turns: Option<Turns>,
}

impl BoxedHandler {
    pub(crate) fn new<Args, H: Handler<Args, Future = Running>>(handler: H, meter: Meter) -> Self {
        let guard = handler.guard();
        let turns = guard.turns();
        Self { run: Box::new(move |context| handler.clone().run(context)), meter, states: H::states(), guard, turns }
    }

    /// Runs it. An error is logged and becomes what the other side may hear of it, and so does a panic.
    pub(crate) fn run(&self, context: Context) -> impl Future<Output = Result<Payload, Failure>> + Send + use<> {
        let name = context.name.clone();
        let mut run = self.meter.begin();
        let started = catch_unwind(AssertUnwindSafe(|| (self.run)(context)));
        async move {
            let ended = match started {
                Ok(running) => AssertUnwindSafe(running).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            let result = match ended {
                Ok(result) => result.map_err(|fail| fail.into_failure(&name)),
                Err(_) => {
                    run.panic();
                    tracing::error!(handler = &*name, "a handler panicked");
                    Err(Failure::of(Code::INTERNAL))
                }
            };
            run.end(if result.is_ok() { CallResult::Ok } else { CallResult::Failed });
            result
        }
    }
}
