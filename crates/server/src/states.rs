//! What handlers take beside the call: values by their type, given before the server is built.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
};

/// The states that `with_state` was given, by type.
#[derive(Default)]
pub(crate) struct States(BTreeMap<TypeId, Box<dyn Any + Send + Sync>>);

impl States {
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, state: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(state));
    }

    pub(crate) fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.0.get(&TypeId::of::<T>()).and_then(|state| state.downcast_ref::<T>()).cloned()
    }

    pub(crate) fn has(&self, state: &StateType) -> bool {
        self.0.contains_key(&state.id)
    }
}

/// A state that a handler needs; checked when the server is built, so that no call fails for the lack of it.
pub struct StateType {
    pub(crate) id: TypeId,
    pub(crate) name: &'static str,
    pub(crate) given_by: GivenBy,
}

/// What gives a server a state.
#[derive(Clone, Copy)]
pub(crate) enum GivenBy {
    WithState,
    KeyValue,
}

impl StateType {
    /// A namespace, which is kept as a `T`, and is that of the type of this name.
    pub(crate) fn namespace<T: 'static>(name: &'static str) -> Self {
        Self { id: TypeId::of::<T>(), name, given_by: GivenBy::KeyValue }
    }
}
