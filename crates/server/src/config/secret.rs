//! Texts that nobody may see.

use zeroize::Zeroizing;

use super::place::Place;

/// A secret text, wiped when it is dropped. It has neither `Debug` nor `Display`, so that it cannot slip into a log.
#[derive(Clone)]
pub struct Secret {
    text: Zeroizing<String>,
    place: Place,
}

impl Secret {
    /// A secret that the program has from somewhere else.
    pub fn new(text: impl Into<String>) -> Self {
        Self::found(text, Place::Program)
    }

    pub(crate) fn found(text: impl Into<String>, place: Place) -> Self {
        Self { text: Zeroizing::new(text.into()), place }
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Where it was found, for messages about it.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_secret_is_not_in_the_debug_text() -> Result<(), crate::config::ConfigError> {
        let config = Config::parse("[identity]\nkey = 'mlsec_canary'", "")?;
        assert!(config.identity.key.as_ref().is_some_and(|key| key.expose() == "mlsec_canary"));
        assert!(!format!("{config:?}").contains("canary"));
        for name in ["secret", "previous_secret"] {
            let config = Config::parse(&format!("[auth.jwt]\n{name} = 'canary'"), "")?;
            assert!(!format!("{config:?}").contains("canary"));
        }
        Ok(())
    }
}
