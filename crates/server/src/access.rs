//! Who may come in, and what he may do.
//!
//! `origin` judges the head of the HTTP request, before anything is known of who asks; `forwarded` finds out from where
//! he does; `jwt` whom a token speaks of (`verified`), in `principal`'s words; `revocation` which tokens are believed no more;
//! `issue` makes some.
//! `claims` reads what a token says into a type of the program's.
//! `gate` puts the ways in together, and `guard` is what a declaration asks of who uses it.

pub(crate) mod claims;
mod forwarded;
pub(crate) mod gate;
mod guard;
pub(crate) mod issue;
pub(crate) mod jwt;
mod origin;
mod principal;
pub(crate) mod revocation;
pub(crate) mod shared_key;
#[cfg(test)]
mod tenants;
pub(crate) mod verified;

pub(crate) use forwarded::Callers;
pub use gate::{Admit, Attempt, AuthHandler, WayIn};
pub use guard::Guard;
pub use jwt::Jwt;
pub use origin::OpenTo;
pub(crate) use origin::{Access, Denied, text};
pub use principal::Principal;
pub use shared_key::SharedKeyError;
