//! What the program does when the server calls or notifies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use moorline_protocol::{
    code::Code,
    frame::Failure,
    payload::{Encoding, Payload},
};
use serde::{Serialize, de::DeserializeOwned};

type Handler = Arc<dyn Fn(Payload) -> BoxFuture<'static, Result<Payload, Failure>> + Send + Sync>;
type Listener = Arc<dyn Fn(Payload) -> BoxFuture<'static, ()> + Send + Sync>;

/// Handlers and listeners by name.
#[derive(Default)]
pub(crate) struct Handlers(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    handlers: HashMap<String, Handler>,
    listeners: HashMap<String, Vec<Listener>>,
}

fn read<T: DeserializeOwned>(payload: &Payload) -> Result<T, Failure> {
    if payload.encoding != Encoding::Json {
        return Err(Failure::with_message(Code::INVALID_PARAMS, "the argument must be JSON, not bytes"));
    }
    serde_json::from_slice(&payload.bytes)
        .map_err(|error| Failure::with_message(Code::INVALID_PARAMS, error.to_string()))
}

impl Handlers {
    pub(crate) fn handle<T, R, Fut>(&self, name: &str, handler: impl Fn(T) -> Fut + Send + Sync + 'static)
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |payload| {
            let run = read(&payload).map(&handler);
            Box::pin(async move {
                let result = run?.await?;
                serde_json::to_vec(&result).map(Payload::json).map_err(|_| Failure::of(Code::INTERNAL))
            })
        });
        self.lock().handlers.insert(name.to_owned(), handler);
    }

    pub(crate) fn listen<T, Fut>(&self, name: &str, listener: impl Fn(T) -> Fut + Send + Sync + 'static)
    where
        T: DeserializeOwned + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let name: Arc<str> = name.into();
        let label = name.clone();
        let listener: Listener = Arc::new(move |payload| match read(&payload) {
            Ok(value) => Box::pin(listener(value)),
            Err(failure) => {
                tracing::warn!(name = &*label, ?failure, "a notification does not have the expected shape");
                Box::pin(std::future::ready(()))
            }
        });
        self.lock().listeners.entry(name.to_string()).or_default().push(listener);
    }

    /// Starts the handler of a call.
    pub(crate) fn run(&self, name: &str, payload: Payload) -> BoxFuture<'static, Result<Payload, Failure>> {
        match self.lock().handlers.get(name).cloned() {
            Some(handler) => handler(payload),
            None => Box::pin(std::future::ready(Err(Failure::of(Code::NOT_FOUND)))),
        }
    }

    /// Starts the listeners of a notification.
    pub(crate) fn hear(&self, name: &str, payload: &Payload) -> Vec<BoxFuture<'static, ()>> {
        let listeners = self.lock().listeners.get(name).cloned().unwrap_or_default();
        listeners.iter().map(|listener| listener(payload.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
