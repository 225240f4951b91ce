//! Who may come in, and what he may do.
//!
//! `origin` judges the head of the HTTP request, before anything is known of who asks; `forwarded` finds out from where
//! he does; the rest judges who it is.

mod forwarded;
mod origin;
mod principal;

pub(crate) use forwarded::Callers;
pub(crate) use origin::{Access, Denied, text};
pub use principal::Principal;
