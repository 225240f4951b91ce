//! What the program does when the server calls or notifies.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt, future::BoxFuture};
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

    /// Starts the handler of a call. Its panic fails that call.
    pub(crate) fn run(&self, name: &str, payload: Payload) -> BoxFuture<'static, Result<Payload, Failure>> {
        // The lock goes first: a handler may set handlers.
        let handler = self.lock().handlers.get(name).cloned();
        match handler {
            Some(handler) => {
                let run = unless_it_panics(name, || handler(payload));
                run.map(|result| result.unwrap_or_else(|| Err(Failure::of(Code::INTERNAL)))).boxed()
            }
            None => Box::pin(std::future::ready(Err(Failure::of(Code::NOT_FOUND)))),
        }
    }

    /// Starts the listeners of a notification. A panic of one ends that one.
    pub(crate) fn hear(&self, name: &str, payload: &Payload) -> Vec<BoxFuture<'static, ()>> {
        let listeners = self.lock().listeners.get(name).cloned().unwrap_or_default();
        let run = |listener: &Listener| unless_it_panics(name, || listener(payload.clone())).map(drop).boxed();
        listeners.iter().map(run).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts something of the program's and gives what it comes to; `None`, and a line in the log, when it panics: the driver
/// that runs it has others to run, and a connection.
fn unless_it_panics<T: Send + 'static>(
    name: &str,
    start: impl FnOnce() -> BoxFuture<'static, T>,
) -> BoxFuture<'static, Option<T>> {
    let name: Arc<str> = name.into();
    let started = catch_unwind(AssertUnwindSafe(start));
    let run = async move {
        let ended = match started {
            Ok(running) => AssertUnwindSafe(running).catch_unwind().await,
            Err(panic) => Err(panic),
        };
        ended.inspect_err(|_| tracing::error!(handler = &*name, "a handler panicked")).ok()
    };
    run.boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn null() -> Payload {
        Payload::json("null")
    }

    /// A panic went through the driver's task: the client was over, with its connection and all other calls.
    #[tokio::test]
    async fn regression_a_panic_of_a_handler_fails_its_call_only() {
        let handlers = Handlers::default();
        handlers.handle("at once", |(): ()| -> std::future::Ready<Result<(), Failure>> { panic!("at once") });
        handlers.handle("later", async |(): ()| -> Result<(), Failure> { panic!("later") });
        handlers.handle("well", async |(): ()| Ok(1));
        for name in ["at once", "later"] {
            assert_eq!(handlers.run(name, null()).await, Err(Failure::of(Code::INTERNAL)), "{name}");
        }
        assert_eq!(handlers.run("well", null()).await, Ok(Payload::json("1")));
    }

    #[tokio::test]
    async fn regression_a_panic_of_a_listener_ends_it_alone() {
        let (handlers, heard) = (Handlers::default(), Arc::new(AtomicBool::new(false)));
        handlers.listen("news", |(): ()| -> std::future::Ready<()> { panic!("at once") });
        handlers.listen("news", async |(): ()| panic!("later"));
        let hears = heard.clone();
        handlers.listen("news", move |(): ()| {
            hears.store(true, Ordering::SeqCst);
            std::future::ready(())
        });
        for listener in handlers.hear("news", &null()) {
            listener.await;
        }
        assert!(heard.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn regression_a_handler_may_set_handlers() {
        let handlers = Arc::new(Handlers::default());
        let inner = handlers.clone();
        handlers.handle("first", move |(): ()| {
            inner.handle("second", async |(): ()| Ok(2));
            std::future::ready(Ok(1))
        });
        assert_eq!(handlers.run("first", null()).await, Ok(Payload::json("1")));
        assert_eq!(handlers.run("second", null()).await, Ok(Payload::json("2")));
    }
}
