//! What somebody may do.

/// What an identity may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scopes {
    /// Everything: open mode.
    All,
    /// It came without a list: what no declaration restricts.
    Unlisted,
    /// These and nothing else.
    Listed(Vec<Scope>),
}

/// One thing that somebody may do, as it is written in tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(String);
