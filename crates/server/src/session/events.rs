//! What becomes of the events of the endpoint: handlers that run, answers that are handed on, a session that begins and
//! ends.

use super::*;

impl Driver {
    pub(super) fn deliver(&mut self, event: ServerEvent) {
        self.shared.metrics.hear(&event, self.peer.as_ref().is_some_and(|(peer, _)| peer.is_connected()));
        match event {
            ServerEvent::Connected(session) => self.connected(session),
            ServerEvent::Authenticate(shown) => {
                self.count_message();
                self.judge(*shown);
            }
            ServerEvent::Resumed => {
                self.opened.reconnect(self.shared.now());
                let Some((peer, _)) = &self.peer else { return };
                self.shared.audit.accept(self.about(), true);
                peer.moved(Some(self.address));
                self.shared.sessions().attach(peer.id());
                let shared = self.shared.clone();
                self.start_hooks(&shared.router.on_return, "on_return");
            }
            ServerEvent::Parked(because) => {
                self.opened.disconnect();
                let Some((peer, _)) = &self.peer else { return };
                match because {
                    Ended::Closed(Code::TOKEN_EXPIRED) => self.shared.audit.expire(self.about()),
                    // Said where it was met.
                    Ended::Closed(Code::RATE_LIMITED) => {}
                    other => self.shared.audit.disconnect(self.about(), &Departure::new(other, 0).reason, false, 0),
                }
                peer.moved(None);
                let longest_away = self.shared.sessions().park(peer.id());
                if let Some(handle) = longest_away {
                    handle.peer.end(Closing::Lost(ResetReason::Expired));
                }
                let shared = self.shared.clone();
                self.start_hooks(&shared.router.on_away, "on_away");
            }
            ServerEvent::Peer(PeerEvent::Call { id, name, key, credit, payload }) => {
                self.count_message();
                self.run_call(id, &name, key.as_ref(), credit.is_some(), payload);
            }
            ServerEvent::Peer(PeerEvent::Cancelled(id)) => {
                self.held.remove(&id);
                if let Some(abort) = self.aborts.remove(&id) {
                    abort.abort();
                }
            }
            ServerEvent::Peer(PeerEvent::Message { name, payload, .. }) => {
                self.count_message();
                let shared = self.shared.clone();
                match shared.router.listeners.find(name.as_str()) {
                    Some((name, listener)) => {
                        match self.admits(&listener.guard, listener.turns.as_ref(), name, &payload) {
                            Ok(()) => self.start(None, listener, name.clone(), payload),
                            Err(failure) => {
                                tracing::debug!(name = &**name, code = %failure.code, "a notification is refused");
                                self.endpoint.warn(failure.code, &format!("{name}: {}", failure.message));
                            }
                        }
                    }
                    None => tracing::debug!(?name, "a notification has no listener"),
                }
            }
            ServerEvent::Peer(PeerEvent::Settled { id, outcome }) => {
                if let Some((_, asker)) = self.asked.remove(&id) {
                    asker.settle(outcome);
                }
            }
            ServerEvent::Peer(PeerEvent::Credit(id)) => {
                if let Some((payload, stream)) = self.held.remove(&id) {
                    self.send_item(id, Some(Ok(payload)), stream);
                }
            }
            ServerEvent::Peer(PeerEvent::Room) => {
                for (id, (payload, stream)) in std::mem::take(&mut self.held) {
                    self.send_item(id, Some(Ok(payload)), stream);
                }
            }
            ServerEvent::Peer(PeerEvent::Item { id, payload }) => {
                if let Some((_, Asker::Stream(items))) = self.asked.get(&id) {
                    // Who does not read any more cancels.
                    let _ = items.send(Item::Next(payload));
                }
            }
            ServerEvent::Channel(wish) => self.handle_wish(*wish),
            ServerEvent::Request(request) => {
                self.count_message();
                self.handle_request(*request);
            }
            ServerEvent::Volatile(append) => {
                self.count_message();
                self.handle_volatile(*append);
            }
            // Nobody here asks for receipts.
            ServerEvent::Peer(PeerEvent::Confirmed(_)) => {}
            ServerEvent::Ended(ended, undelivered) => {
                self.opened.end();
                self.ended(ended, undelivered);
            }
            // Both belong to the handshake, which is over.
            ServerEvent::Arrived(_) | ServerEvent::HandshakeFailed(_) => {}
        }
    }

    fn connected(&mut self, session: SessionId) {
        let (peer, mailbox) = Peer::new(
            session,
            self.address,
            self.entry.clone(),
            &self.shared.endpoint.limits,
            self.shared.metrics.clone(),
        );
        self.compare_versions();
        if let Some(proof) = self.endpoint.proof() {
            let handle = SessionHandle { peer: peer.clone(), sockets: self.sockets.clone() };
            self.shared.sessions().enter(session, owner(proof.clone(), &self.entry), handle);
        }
        self.shared.peers.enter(peer.clone());
        self.shared.end_if_revoked(&peer);
        self.peer = Some((peer, mailbox));
        self.shared.audit.accept(self.about(), false);
        let shared = self.shared.clone();
        self.start_hooks(&shared.router.on_connect, "on_connect");
    }

    fn ended(&mut self, ended: Ended, undelivered: usize) {
        // What still ran for this client has nobody left to answer to.
        self.aborts.drain().for_each(|(_, abort)| abort.abort());
        self.held.clear();
        let Some((peer, _)) = &self.peer else { return };
        let departure = Departure::new(ended, undelivered);
        match self.revoked && ended == Ended::Closed(Code::UNAUTHORIZED) {
            true => self.shared.audit.revoke(self.about(), undelivered),
            false => self.shared.audit.disconnect(self.about(), &departure.reason, true, undelivered),
        }
        peer.moved(None);
        self.shared.sessions().leave(peer.id(), ended.reset_reason());
        self.shared.peers.leave(peer.id());
        self.departure = Some(departure);
    }

    /// Runs the hooks. A socket that was handed over in the last moment gets a session of its own.
    pub(super) async fn finish(mut self) {
        self.adoptions.close();
        while let Ok(newcomer) = self.adoptions.try_recv() {
            self.shared.tasks.spawn(begin(*newcomer, Some(ResetReason::Unknown), self.shared.clone()));
        }
        let (shared, Some((peer, _)), Some(departure)) = (self.shared.clone(), &self.peer, &self.departure) else {
            return;
        };
        let departure = serde_json::to_vec(departure).map_or_else(|_| null(), Payload::json);
        let run = |hook: &BoxedHandler| hook.run(context(&shared, peer, "on_disconnect".into(), departure.clone()));
        let hooks: Vec<_> = shared.router.on_disconnect.iter().map(run).collect();
        let _ = timeout(HOOK_WAIT, join_all(hooks)).await;
    }
}
