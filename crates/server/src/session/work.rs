//! The handlers that run for a session: found, admitted, started, and what they come to.

use super::*;

impl Driver {
    pub(super) fn run_call(
        &mut self,
        id: CallId,
        name: &Name,
        key: Option<&Name>,
        wants_stream: bool,
        payload: Payload,
    ) {
        let shared = self.shared.clone();
        let found = shared.router.handlers.find(name.as_str());
        if let Some((name, served)) = found
            && let Err(failure) = self.admits(served.guard(), served.turns(), name, &payload)
        {
            self.shared.metrics.refuse_call();
            // A failure is never too large.
            let _ = self.endpoint.answer(id, Err(failure));
            return;
        }
        let failure = match (found, wants_stream) {
            (Some((name, Served::Once(handler))), false) => {
                return match key {
                    Some(key) => self.start_once(id, key, handler, name.clone(), payload),
                    None => self.start(Some(id), handler, name.clone(), payload),
                };
            }
            (Some((name, Served::Stream(handler))), true) => {
                let Some((peer, _)) = &self.peer else { return };
                let stream = handler.run(context(&self.shared, peer, name.clone(), payload));
                return self.await_item(id, stream);
            }
            (Some((_, Served::Once(_))), true) => {
                Failure::with_message(Code::INVALID_PARAMS, "this handler answers once: call it")
            }
            (Some((_, Served::Stream(_))), false) => {
                Failure::with_message(Code::INVALID_PARAMS, "this handler answers with a stream: read it as one")
            }
            (None, _) => Failure::of(Code::NOT_FOUND),
        };
        self.shared.metrics.refuse_call();
        // A failure is never too large.
        let _ = self.endpoint.answer(id, Err(failure));
    }

    /// Takes a turn of the client at a handler that has a rate.
    pub(super) fn has_turn(&self, turns: Option<&Turns>) -> Result<(), Duration> {
        let Some(turns) = turns else { return Ok(()) };
        turns.take(&self.caller(), Instant::now()).inspect_err(|_| self.shared.metrics.limit(Limited::Handler))
    }

    /// Whether the client may have this done, is not too early for it, and has sent what it takes; asked in this order,
    /// so that nobody learns what an argument must be like of what is not for him.
    pub(super) fn admits(
        &mut self,
        guard: &Guard,
        turns: Option<&Turns>,
        name: &Arc<str>,
        payload: &Payload,
    ) -> Result<(), Failure> {
        if !self.permits(guard, name) {
            return Err(Failure::of(Code::FORBIDDEN));
        }
        self.has_turn(turns).map_err(|wait| too_early(wait, name))?;
        guard.check(payload)
    }

    /// Starts a handler, unless it has been started for the same call before: then its answer is that of the first time.
    pub(super) fn start_once(
        &mut self,
        id: CallId,
        key: &Name,
        handler: &BoxedHandler,
        name: Arc<str>,
        payload: Payload,
    ) {
        let Some((peer, _)) = &self.peer else { return };
        // Those that were given up count as well: who calls and cancels would otherwise have any number running.
        if Arc::strong_count(&self.keyed) > self.shared.endpoint.limits.max_calls_in_flight {
            self.shared.metrics.refuse_call();
            // A failure is never too large.
            let _ = self.endpoint.answer(id, Err(Failure::of(Code::TOO_MANY_CALLS)));
            return;
        }
        // Everybody is anonymous, so that one must not get the answer of another.
        let key = Key { caller: self.caller(), handler: name.clone(), key: key.as_str().to_owned() };
        let context = context(&self.shared, peer, name, payload);
        let running = self.keyed.clone();
        let run = || {
            let result = handler.run(context);
            async move {
                let result = result.await;
                drop(running);
                result
            }
            .boxed()
        };
        let answer = self.shared.once.answer(key, &self.shared.tasks, run);
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(id, abort);
        self.running.push(Abortable::new(answer.map(move |result| Done::Answer(id, result)).boxed(), registration));
    }

    /// Waits for the next item beside everything else.
    pub(super) fn await_item(&mut self, id: CallId, mut stream: Streaming) {
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(id, abort);
        let next = async move {
            let item = stream.next().await;
            Done::Item(id, item, stream)
        };
        self.running.push(Abortable::new(next.boxed(), registration));
    }

    pub(super) fn send_item(&mut self, id: CallId, item: Option<Result<Payload, Failure>>, stream: Streaming) {
        self.aborts.remove(&id);
        let refused = match item {
            Some(Ok(payload)) => match self.endpoint.item(id, payload.clone()) {
                Ok(()) => {
                    self.shared.metrics.send_message();
                    return self.await_item(id, stream);
                }
                Err(Refused::Backpressure) => {
                    self.held.insert(id, (payload, stream));
                    return;
                }
                Err(refused) => Failure::of(refused.code()),
            },
            Some(Err(failure)) => failure,
            None => return self.endpoint.end_stream(id),
        };
        let _ = self.endpoint.answer(id, Err(refused));
    }

    pub(super) fn start_hooks(&mut self, hooks: &[BoxedHandler], name: &str) {
        for hook in hooks {
            self.start(None, hook, name.into(), null());
        }
    }

    /// Starts a handler. Its panic fails this call only.
    pub(super) fn start(&mut self, id: Option<CallId>, handler: &BoxedHandler, name: Arc<str>, payload: Payload) {
        let Some((peer, _)) = &self.peer else { return };
        let run = handler.run(context(&self.shared, peer, name, payload));
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.extend(id.map(|id| (id, abort)));
        let done = move |result| id.map_or(Done::Heard, |id| Done::Answer(id, result));
        self.running.push(Abortable::new(run.map(done).boxed(), registration));
    }
}

/// Who comes again after so long has a turn.
pub(super) fn too_early(wait: Duration, name: &Arc<str>) -> Failure {
    // Rounded up, so that it has.
    let data = serde_json::json!({ "retryAfterMs": wait.as_millis() as u64 + 1 });
    Fail::of(Code::TOO_MANY_REQUESTS).data(&data).into_failure(name)
}

pub(super) fn null() -> Payload {
    Payload::json(Bytes::from_static(b"null"))
}

pub(super) fn context(shared: &Shared, peer: &Peer, name: Arc<str>, payload: Payload) -> Context {
    let (peers, states) = (shared.peers.clone(), shared.states.clone());
    let (channels, declared) = (shared.channels.clone(), shared.declared.clone());
    Context { name, payload, entry: peer.entry(), peer: peer.clone(), peers, states, channels, declared }
}
