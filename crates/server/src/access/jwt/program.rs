//! What a program says of tokens, beside its configuration.

use serde::de::DeserializeOwned;

use super::Object;
use crate::access::claims::{self, Misfit};

/// Whether claims are what a program takes.
pub(crate) type Fits = fn(&Object) -> Result<(), Misfit>;

/// Tokens as a way in, for [`ServerBuilder::auth`](crate::ServerBuilder::auth): judged by `[auth.jwt]` of the
/// configuration, which a server that is given this does not start without.
///
/// ```
/// use moorline_server::{config::{JwtAlgorithm, Secret}, prelude::*};
///
/// #[derive(serde::Deserialize)]
/// struct User { sub: String, name: String }
///
/// async fn greet(Auth(me): Auth<User>) -> Json<String> {
///     Json(format!("Hello, {} ({})", me.name, me.sub))
/// }
///
/// fn app() -> ServerBuilder {
///     Server::builder().auth(Jwt::from_config().claims::<User>()).handler("greet", greet)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), moorline_server::Error> {
/// # let mut config = Config::default();
/// # config.server.listen = ([127, 0, 0, 1], 0).into();
/// # config.server.encryption = false;
/// // Without a key nobody could be judged, and everybody of this machine would be let in: it does not start.
/// assert!(app().config(config.clone()).build().await.is_err());
///
/// config.auth.jwt.algorithm = Some(JwtAlgorithm::Hs256);
/// config.auth.jwt.secret = Some(Secret::new("a secret of 32 bytes or more, from a file"));
/// app().config(config).build().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Jwt {
    claims: Option<Fits>,
}

impl Jwt {
    /// Tokens that `[auth.jwt]` believes.
    pub fn from_config() -> Self {
        Self::default()
    }

    /// Believes on a connection only tokens whose claims read into this type; of others the client hears `unauthorized`.
    /// Handlers then take it as [`Auth<T>`](crate::Auth). The last one counts.
    #[must_use]
    pub fn claims<T: DeserializeOwned>(self) -> Self {
        Self { claims: Some(|claims| claims::read::<T>(claims.clone()).map(drop)) }
    }

    pub(crate) fn fits(&self) -> Option<Fits> {
        self.claims
    }
}
