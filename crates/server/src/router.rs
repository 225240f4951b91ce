//! Which handler has which name. What is not declared does not exist.

use std::{collections::HashMap, sync::Arc};

use crate::{
    access::Guard,
    error::Error,
    handler::BoxedHandler,
    limits::Turns,
    states::{GivenBy, StateType, States},
    stream::BoxedStream,
};

/// The handlers, listeners and hooks of a server.
#[derive(Default)]
pub(crate) struct Router {
    pub(crate) handlers: Table<Served>,
    pub(crate) listeners: Table<BoxedHandler>,
    pub(crate) on_connect: Vec<BoxedHandler>,
    pub(crate) on_away: Vec<BoxedHandler>,
    pub(crate) on_return: Vec<BoxedHandler>,
    pub(crate) on_disconnect: Vec<BoxedHandler>,
}

/// How calls of a name are answered.
pub(crate) enum Served {
    Once(BoxedHandler),
    Stream(BoxedStream),
}

/// Something that has a name.
pub(crate) trait Declared {
    /// The states that it needs.
    fn states(&self) -> &[StateType];

    /// What it asks of who uses it.
    fn guard(&self) -> &Guard;

    /// How often it may be used.
    fn turns(&self) -> Option<&Turns>;
}

impl Declared for BoxedHandler {
    fn states(&self) -> &[StateType] {
        &self.states
    }

    fn guard(&self) -> &Guard {
        &self.guard
    }

    fn turns(&self) -> Option<&Turns> {
        self.turns.as_ref()
    }
}

impl Declared for Served {
    fn states(&self) -> &[StateType] {
        match self {
            Self::Once(handler) => &handler.states,
            Self::Stream(handler) => &handler.states,
        }
    }

    fn guard(&self) -> &Guard {
        match self {
            Self::Once(handler) => &handler.guard,
            Self::Stream(handler) => &handler.guard,
        }
    }

    fn turns(&self) -> Option<&Turns> {
        match self {
            Self::Once(handler) => handler.turns.as_ref(),
            Self::Stream(handler) => handler.turns.as_ref(),
        }
    }
}

/// Handlers by name.
pub(crate) struct Table<H> {
    by_name: HashMap<Arc<str>, H>,
    /// The first name that was given twice.
    duplicate: Option<String>,
}

impl<H> Default for Table<H> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), duplicate: None }
    }
}

impl<H: Declared> Table<H> {
    pub(crate) fn insert(&mut self, name: &str, handler: H) {
        if self.by_name.insert(name.into(), handler).is_some() {
            self.duplicate.get_or_insert_with(|| name.to_owned());
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<(&Arc<str>, &H)> {
        self.by_name.get_key_value(name)
    }

    fn check(&self, states: &States) -> Result<(), Error> {
        if let Some(name) = &self.duplicate {
            return Err(Error::DuplicateName(name.clone()));
        }
        self.by_name.iter().try_for_each(|(name, handler)| {
            moorline_protocol::payload::Name::new(name).map_err(|_| Error::InvalidName(name.to_string()))?;
            if let Some(error) = handler.guard().error() {
                return Err(Error::InvalidGuard { handler: name.to_string(), error: error.to_owned() });
            }
            check_states(name, handler, states)
        })
    }

    fn lets_guests_in(&self) -> bool {
        self.by_name.values().any(|handler| handler.guard().skips_auth())
    }
}

fn check_states(name: &str, handler: &impl Declared, states: &States) -> Result<(), Error> {
    match handler.states().iter().find(|state| !states.has(state)) {
        Some(state) => {
            let (handler, name) = (name.to_owned(), state.name);
            Err(match state.given_by {
                GivenBy::WithState => Error::MissingState { handler, state: name },
                GivenBy::KeyValue => Error::MissingNamespace { handler, namespace: name },
            })
        }
        None => Ok(()),
    }
}

impl Router {
    /// Whether there is something for those who have shown nothing.
    pub(crate) fn lets_guests_in(&self) -> bool {
        self.handlers.lets_guests_in() || self.listeners.lets_guests_in()
    }

    /// Finds at the start what would otherwise fail a call.
    pub(crate) fn check(&self, states: &States) -> Result<(), Error> {
        self.handlers.check(states)?;
        self.listeners.check(states)?;
        self.on_connect.iter().try_for_each(|hook| check_states("on_connect", hook, states))?;
        self.on_away.iter().try_for_each(|hook| check_states("on_away", hook, states))?;
        self.on_return.iter().try_for_each(|hook| check_states("on_return", hook, states))?;
        self.on_disconnect.iter().try_for_each(|hook| check_states("on_disconnect", hook, states))
    }
}
