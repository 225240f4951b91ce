//! Who may come in, and what he may do.
//!
//! `origin` judges the head of the HTTP request, before anything is known of who asks; the rest judges who it is.

mod origin;
mod principal;

pub(crate) use origin::{Access, Denied, text};
pub use principal::Principal;
