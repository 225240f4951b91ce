//! Who may come in, and what he may do.
//!
//! `origin` judges the head of the HTTP request, before anything is known of who asks; `jwt` whom a token speaks of, in
//! `principal`'s words; `revocation` which tokens are believed no more;
//! `issue` makes some.

pub(crate) mod issue;
pub(crate) mod jwt;
mod origin;
mod principal;
pub(crate) mod revocation;

pub(crate) use origin::{Access, Denied, text};
pub use principal::Principal;
